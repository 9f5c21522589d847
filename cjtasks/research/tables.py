"""The findings of a session as rows with the names of essays and judges, best essay first."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cjtasks.domain.findings import misfitting
from cjtasks.domain.plain_words import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cjtasks.domain.findings import Findings
    from cjtasks.domain.side_effect import SideEffect


@dataclass(frozen=True, slots=True)
class ScoredSession:
    """Findings with the names that the judgements' indices stand for."""

    findings: Findings
    essays: Sequence[str]
    judges: Sequence[str] = ()
    left_out: int = 0  # Comparisons of an essay with itself.


class EssayRow(NamedTuple):
    """Published are `posterior_mean` and `posterior_sd`; `score` and `se` are those of the conventional fit."""

    id: str
    rank: int
    rank_low: int
    rank_high: int
    group: int
    posterior_mean: float
    posterior_sd: float
    swap_below: float
    score: float
    se: float
    infit: float
    outfit: float
    misfit: bool
    comparisons: int
    wins: float


class JudgeRow(NamedTuple):
    id: str
    comparisons: int
    infit: float
    outfit: float
    misfit: bool


def essay_rows(session: ScoredSession) -> list[EssayRow]:
    found = session.findings
    fit, posterior = found.conventional, found.assessment
    columns = (
        *(found.ranks, posterior.ranks.low, posterior.ranks.high, found.groups),
        *(posterior.means, found.standard_errors, found.swap_below),
        *(fit.scores, fit.standard_errors, fit.infit, fit.outfit, misfitting(fit.infit)),
        *(fit.comparisons, fit.wins),
    )
    names = [session.essays[index] for index in found.compared]
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return sorted((EssayRow(*row) for row in rows), key=lambda row: row.rank)


def judge_rows(session: ScoredSession) -> list[JudgeRow]:
    """Return the judges, worst fit first."""
    fit = session.findings.judges
    if fit is None:
        return []
    columns = fit.comparisons, fit.infit, fit.outfit, misfitting(fit.infit)
    rows = zip(session.judges, *(column.tolist() for column in columns), strict=True)
    return sorted((JudgeRow(*row) for row in rows), key=lambda row: (-row.infit, row.id))


def as_json(session: ScoredSession) -> dict[str, Any]:
    """Return everything for `json.dumps`; what is not known is None."""
    found, claims = session.findings, session.findings.assessment.claims
    return {
        "items": [_known(row) for row in essay_rows(session)],
        "unscored": [session.essays[index] for index in found.unscored],
        "comparisons": found.comparisons,
        "left_out": session.left_out,
        "components": found.parts,
        "reliability": claims.reliability if claims else None,
        "reliability_quantiles": asdict(claims.reliability_quantiles) if claims else None,
        "r2_interval": list(claims.r2_interval) if claims else None,
        "differences_are_real": claims.differences_are_real if claims else None,
        "prior_sd": found.assessment.prior_sd,
        "ssr": _finite(found.conventional.ssr),
        "separation": _finite(found.conventional.separation),
        "certainty": found.conclusion.certainty if found.conclusion else None,
        "target": found.target,
        "more_comparisons": found.more_comparisons,
        "words": list(in_words(found)),
        "judges": [_known(row) for row in judge_rows(session)],
        "side_effect": _side(found.side),
    }


def _side(side: SideEffect | None) -> dict[str, float | None] | None:
    if side is None:
        return None
    return {"eta": _finite(side.eta), "se": _finite(side.standard_error), "z": _finite(side.z)}


def as_csv(session: ScoredSession) -> str:
    """Return the essays' rows with a header; what is not known is empty."""
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(EssayRow._fields)
    lines.writerows(_known(row).values() for row in essay_rows(session))
    return text.getvalue()


def _known(row: EssayRow | JudgeRow) -> dict[str, Any]:
    return {name: _finite(value) for name, value in row._asdict().items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
