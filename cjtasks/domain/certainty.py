"""In a few words: are there differences between the essays at all, and is their ranking sure enough."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cjtasks.domain.reliability import Claims

_FEW = 1.5  # Times as many comparisons.


class Certainty(StrEnum):
    """How sure a ranking is, measured against a target for the reliability."""

    ENOUGH = "enough"
    A_FEW_MORE = "a_few_more"
    NOT_ENOUGH = "not_enough"


@dataclass(frozen=True, slots=True)
class Conclusion:
    differences_are_real: bool
    certainty: Certainty
    comparisons_needed: float  # Times as many as there are; at most 1 where the target is reached, inf without hope.


def conclude(claims: Claims, target: float) -> Conclusion:
    """Conclude from the lower quartile of the reliability, so that luck seldom passes for certainty.

    Enough: the quartile has reached `target` (above 0, below 1; else ValueError). A few more: with half as many
    comparisons again it would, by the formula of Spearman (1910) and Brown (1910). Not enough: all else, and
    wherever differences are not known to be real.
    """
    if not 0 < target < 1:
        raise ValueError(f"target must be above 0 and below 1, got {target}")
    needed = _lengthening(claims.reliability_quantiles.q25, target)
    return Conclusion(claims.differences_are_real, _certainty(needed, claims), needed)


def _certainty(needed: float, claims: Claims) -> Certainty:
    if not claims.differences_are_real or needed > _FEW:
        return Certainty.NOT_ENOUGH
    return Certainty.ENOUGH if needed <= 1 else Certainty.A_FEW_MORE


def _lengthening(reached: float, target: float) -> float:
    """Return how many times as many comparisons bring a reliability from `reached` to `target`."""
    return target * (1 - reached) / (reached * (1 - target)) if reached > 0 else float("inf")
