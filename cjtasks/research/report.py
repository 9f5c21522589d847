"""The report of a session: one page of HTML with its style and pictures inside, that opens without a network."""

from __future__ import annotations

import math
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, StrictUndefined

from cjtasks.domain.findings import FEWEST_FOR_MISFIT
from cjtasks.domain.plain_words import in_words
from cjtasks.errors import UnusableFile
from cjtasks.research.rank_plot import rank_plot
from cjtasks.research.tables import essay_rows, judge_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cjtasks.research.tables import EssayRow, JudgeRow, ScoredSession


class Figure(NamedTuple):
    """A number with its name and a few words on it."""

    name: str
    value: str
    note: str


def write(path: Path, session: ScoredSession, title: str) -> None:
    """Write the page to a file; UnusableFile where that cannot be done."""
    page = render(session, title)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise UnusableFile.of(f"{path}: {why}", operation="write_report") from None


def render(session: ScoredSession, title: str) -> str:
    """Write the page; names are escaped, so an essay may be called whatever it likes."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["signed"] = _signed
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    essays, judges = essay_rows(session), judge_rows(session)
    headline, *sentences = in_words(session.findings)
    return template.render(
        title=title,
        counted=_counted(session),
        tone=session.findings.conclusion.certainty if session.findings.conclusion else "no_claim",
        headline=headline,
        sentences=sentences,
        figures=list(_figures(session)),
        plot=rank_plot(essays),
        essays=essays,
        groups=session.findings.groups.max(),
        misfits=[row for row in essays if row.misfit],
        judges=judges,
        misfit_essays=_misfit_essays(essays),
        misfit_judges=_misfit_judges(judges),
        prior_sd=session.findings.assessment.prior_sd,
        beside=_beside(session),
        made_by=f"cjtasks {version('cjtasks')}",
    )


def _signed(logits: float) -> str:
    return f"{logits:+.2f}".replace("-", "\N{MINUS SIGN}")


def _counted(session: ScoredSession) -> str:
    found = session.findings
    counts = [f"{found.compared.size:,} essays", f"{found.comparisons:,} comparisons"]
    if session.judges:
        counts.append(f"{len(session.judges):,} judges")
    if session.left_out:
        counts.append(f"{session.left_out:,} comparisons of an essay with itself left out")
    return " \N{MIDDLE DOT} ".join(counts)


def _figures(session: ScoredSession) -> Iterator[Figure]:
    found, claims, ssr = session.findings, session.findings.assessment.claims, session.findings.conventional.ssr
    if claims is not None:
        likely = claims.reliability_quantiles
        yield Figure("Reliability", f"{claims.reliability:.2f}", f"90 % likely {likely.q05:.2f} to {likely.q95:.2f}")
    an_essay = 2 * found.comparisons / found.compared.size
    yield Figure("Comparisons", f"{an_essay:.1f}", "for each essay, on average")
    yield Figure("Groups", str(found.groups.max()), "of essays that can be told apart")
    yield Figure("Spread", f"{found.assessment.prior_sd:.2f}", "standard deviation of the true scores, logits")
    if math.isfinite(ssr):
        yield Figure("SSR", f"{ssr:.2f}", "for comparison: too high when pairs follow the scores")
    if found.side is not None and math.isfinite(found.side.eta):
        note = f"\N{PLUS-MINUS SIGN} {found.side.standard_error:.2f} logits for being shown first"
        yield Figure("Side", _signed(found.side.eta), note)


def _misfit_essays(rows: Sequence[EssayRow]) -> str:
    if any(row.misfit for row in rows):
        return (
            "Judges disagree about these essays more than the model expects: their infit is above the mean by more "
            "than two standard deviations. Something in them may divide readers; read them again."
        )
    if len(rows) < FEWEST_FOR_MISFIT:
        return f"Which essays divide judges cannot be told of fewer than {FEWEST_FOR_MISFIT}."
    return "No essay has an infit above the mean by more than two standard deviations: none divides judges markedly."


def _misfit_judges(rows: Sequence[JudgeRow]) -> str:
    names = [row.id for row in rows if row.misfit]
    if names:
        return f"Judges who disagree with the rest more than expected, by the same rule: {', '.join(names)}."
    if len(rows) < FEWEST_FOR_MISFIT:
        few = f"Fewer than {FEWEST_FOR_MISFIT} judges cannot be told apart by that rule"
        return f"{few}; an infit far above 1 is a reason to ask."
    return "No judge disagrees with the rest more than expected, by the same rule."


def _beside(session: ScoredSession) -> str:
    fit = session.findings.conventional
    told = (
        f"the fit with wins pulled to the middle by 0.3, as the R package sirt makes it ({session.findings.parts} part"
    )
    told += ")" if session.findings.parts == 1 else "s that nothing joins)"
    if math.isfinite(fit.ssr):
        told += f", has an SSR of {fit.ssr:.2f} and a separation of {fit.separation:.2f}"
    return told
