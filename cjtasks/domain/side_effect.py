"""How much the side on which an essay is shown decides a comparison: the order effect in a Bradley-Terry model.

The first essay wins with probability 1 / (1 + exp(score_second - score_first - eta)). Scores and eta are estimated
together: the scores as `cjtasks.domain.scoring` does, eta such that the first side is expected to win as often as it
did (Davidson and Beaver 1977, with the effect additive in logits). Where every essay is shown as often first as
second, eta does not change who is better; so it is reported, and scores are ranked without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cjtasks.domain.newton import EPSILON, adjusted, damping, surplus
from cjtasks.domain.outcomes import Moments, OutcomePairs, check_indices, odds_against

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cjtasks.domain.laplacian import FloatArray
    from cjtasks.domain.outcomes import IntArray

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-9  # Logits: the largest last step.
_EXACT = 1e-10  # Relative: these steps need not be fast.
_CONFOUNDED = 1e-9  # So small a part of the information on eta is none but rounding.


@dataclass(frozen=True, slots=True)
class SideEffect:
    """The effect of being shown first; all nan where the comparisons cannot tell it from the essays' scores."""

    eta: float  # Logits, in favour of the first side.
    standard_error: float  # Logits; the scores are not held fixed.
    z: float  # eta over its standard error, about standard normal where sides do not matter.
    scores: FloatArray  # (n,) logits, freed of the effect; nan for an essay without comparisons.


@dataclass(frozen=True, slots=True)
class _Sided:
    """Ordered pairs, the first side in the winner's place, and what the estimates have to give back."""

    pairs: OutcomePairs
    adjusted_wins: FloatArray  # (n,)
    first_wins: float

    def lead(self, values: FloatArray) -> FloatArray:
        """By how much the first side is ahead in each pair, (n,) to (pairs,)."""
        return values[self.pairs.winner] - values[self.pairs.loser]


class _Joint(NamedTuple):
    """What the model expects, of the essays and of the sides."""

    essays: Moments
    first_wins: float
    tilt: FloatArray  # (n,) information on an essay's score where it was first, less that where it was second.


class _Step(NamedTuple):
    scores: FloatArray
    eta: float
    information: float  # On eta, once the scores have taken theirs.


def side_effect(firsts: IntArray, seconds: IntArray, first_won: NDArray[np.bool_], n: int) -> SideEffect:
    """Estimate the effect from (m,) indices of the essays shown first and second, from 0 to n - 1, and who won.

    Raises ValueError naming the argument that is out of range or not as long as the others.
    """
    check_indices("firsts and seconds", firsts, seconds, n)
    if first_won.shape != firsts.shape:
        raise ValueError(f"first_won must be as long as firsts, got {first_won.shape} and {firsts.shape}")
    seen = np.zeros(n, np.bool_)
    seen[firsts] = seen[seconds] = True
    every = np.full(n, np.nan)
    if first_won.all() or not first_won.any():
        return SideEffect(np.nan, np.nan, np.nan, every)
    position = np.cumsum(seen) - 1
    fitted = _fit(_sided(position[firsts], position[seconds], first_won))
    every[seen] = fitted.scores
    return SideEffect(fitted.eta, fitted.standard_error, fitted.z, every)


def _sided(firsts: IntArray, seconds: IntArray, first_won: NDArray[np.bool_]) -> _Sided:
    n = int(max(firsts.max(), seconds.max())) + 1
    pairs = OutcomePairs.of(firsts, seconds, n)
    wins = np.bincount(np.where(first_won, firsts, seconds), minlength=n)
    return _Sided(pairs, adjusted(wins, pairs.comparisons, EPSILON), float(first_won.sum()))


def _fit(sided: _Sided) -> SideEffect:
    scores, eta = np.zeros(sided.adjusted_wins.size), 0.0
    for _ in range(_MAX_ITERATIONS):
        step = _step(sided, _joint(sided, scores, eta))
        if step is None:
            break
        stride = float(np.max(np.abs(sided.lead(step.scores) + step.eta)))
        scores = scores + damping(stride) * step.scores
        eta += damping(stride) * step.eta
        if stride <= _TOLERANCE:
            error = step.information**-0.5
            return SideEffect(eta, error, eta / error, scores)
    return SideEffect(np.nan, np.nan, np.nan, np.full(scores.size, np.nan))


def _joint(sided: _Sided, scores: FloatArray, eta: float) -> _Joint:
    pairs = sided.pairs
    chance = 1 / (1 + odds_against(-sided.lead(scores) - eta))
    won = pairs.count * chance
    weights = won * (1 - chance)
    as_first, as_second = pairs.over_essays(weights)
    expected = pairs.over_essays(won)
    essays = Moments(expected[0] + pairs.losses - expected[1], as_first + as_second, weights)
    return _Joint(essays, float(won.sum()), as_first - as_second)


def _step(sided: _Sided, joint: _Joint) -> _Step | None:
    """Solve Newton's equations for the scores first and then, with what they leave, for eta; None if they cannot be."""
    pairs = sided.pairs
    c = surplus(sided.adjusted_wins, joint.essays, pairs.components)
    gap = sided.adjusted_wins - joint.essays.expected - c * joint.essays.information
    try:
        scores, per_eta = (pairs.newton_step(joint.essays, right, _EXACT) for right in (gap, joint.tilt))
    except np.linalg.LinAlgError:
        return None  # Groups of essays have drifted so far apart that rounding is all that joins them.
    total = float(joint.essays.weights.sum())
    information = total - float(joint.tilt @ per_eta)
    if not information > _CONFOUNDED * total:
        return None
    eta = (sided.first_wins - joint.first_wins - float(joint.tilt @ scores)) / information
    return _Step(scores - eta * per_eta, eta, information)
