"""What was found, in words for people who do not read statistics; each sentence follows from the numbers by a rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy.special import expit

from cjtasks.domain.certainty import Certainty
from cjtasks.domain.reliability import FEWEST_ESSAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.domain.findings import Findings
    from cjtasks.domain.reliability import Claims
    from cjtasks.domain.side_effect import SideEffect

_SIGNIFICANT = 1.96  # Standard errors.

HEADLINES = {
    Certainty.ENOUGH: "Enough: the ranking can be relied on.",
    Certainty.A_FEW_MORE: "A few more comparisons are needed.",
    Certainty.NOT_ENOUGH: "Not enough: do not rely on this ranking yet.",
    None: "Nothing can be claimed about this ranking.",
}


def in_words(findings: Findings) -> tuple[str, ...]:
    """Return the headline, and then a sentence or two on each point that matters."""
    certainty = findings.conclusion.certainty if findings.conclusion else None
    return HEADLINES[certainty], *_sentences(findings)


def _sentences(findings: Findings) -> Iterator[str]:
    claims = findings.assessment.claims
    if claims is None:
        yield f"Reliability needs at least {FEWEST_ESSAYS} essays; {findings.compared.size} were compared."
    if findings.parts > 1:
        yield (
            f"The essays fall into {findings.parts} parts that no comparison joins: "
            "scores and ranks say nothing across these parts."
        )
    elif claims is not None:
        yield _differences(claims)
        yield _reliability(claims, findings.target)
        yield from _more(findings)
        yield _groups(findings)
    if findings.unscored.size:
        yield f"Essays without any comparison, and so without a score: {findings.unscored.size}."
    if findings.side is not None and math.isfinite(findings.side.z):
        yield _side(findings.side)
    if claims is not None and math.isfinite(findings.conventional.ssr):
        yield _ssr(findings.conventional.ssr)


def _differences(claims: Claims) -> str:
    if claims.differences_are_real:
        return "The differences between the essays are real: coin tosses would hardly ever look like this."
    return "The differences may be chance: a judge who tosses coins could well have given these answers."


def _reliability(claims: Claims, target: float) -> str:
    """Say what reliability means by its definition: the correlation of two sessions of the same kind."""
    estimate, cautious = claims.reliability, claims.reliability_quantiles.q25
    surely = f" ({cautious:.2f} or more with a probability of three quarters)" if cautious < estimate else ""
    return (
        f"Reliability is {estimate:.2f}{surely}, where {target:.2f} is asked for: "
        f"a second session like this one would give scores that correlate with these by about {estimate:.2f}."
    )


def _more(findings: Findings) -> Iterator[str]:
    """Say about how many more comparisons are needed, if any are."""
    if findings.conclusion is None or findings.conclusion.certainty is Certainty.ENOUGH:
        return
    more = findings.more_comparisons
    if more is None:
        yield "How many more comparisons would do cannot be said, except that it is more than ten times what there is."
    elif more > 0:
        an_essay, so_far = 2 * more / findings.compared.size, 2 * findings.comparisons / findings.compared.size
        yield (
            f"About {_rounded_up(more):,} more comparisons of the same kind should do: "
            f"{math.ceil(an_essay)} more for each essay, which has {so_far:.0f} on average now."
        )


def _groups(findings: Findings) -> str:
    count = int(findings.groups.max())
    if count == 1:
        return "No essay can be told from the best one with 95 % certainty."
    return f"The ranking falls into {count} groups; within a group no essay can be told from the group's first."


def _side(side: SideEffect) -> str:
    told = f"{side.eta:+.2f} \N{PLUS-MINUS SIGN} {side.standard_error:.2f} logits".replace("-", "\N{MINUS SIGN}")
    if abs(side.z) < _SIGNIFICANT:
        return f"Whether an essay is shown first or second makes no difference that could be found ({told})."
    preferred, wins = ("first", side.eta) if side.eta > 0 else ("second", -side.eta)
    share = f"{100 * expit(wins):.0f} %"
    return f"The essay shown {preferred} is preferred ({told}): of two equally good ones it wins {share} of the time."


def _ssr(ssr: float) -> str:
    told = f"{ssr:.2f}".replace("-", "\N{MINUS SIGN}")
    return f"SSR, for comparison with the literature, is {told}; too high where earlier answers chose the pairs."


def _rounded_up(number: int) -> int:
    """Keep two digits: the number is an estimate."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return math.ceil(number / unit) * unit
