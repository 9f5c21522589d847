"""Newton's method for the equations of the epsilon-adjusted Bradley-Terry estimate.

The scores solve s_i - E_i = c V_i for every essay, with mean 0 in each component: s are the adjusted wins, E the
expected wins, V the information, and c = sum(s - E) / sum(V) over a component spreads the surplus that the adjusted
wins have where essays have unequal numbers of comparisons; c is 0 where these are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from cjtasks.domain.laplacian import FloatArray
    from cjtasks.domain.outcomes import Components, IntArray, Moments, Outcomes

EPSILON = 0.3  # Wins: the adjustment that comparative judgement commonly uses.
_MAX_ITERATIONS = 100
_TOLERANCE = 1e-9  # Logits: what is thought to be left of the error in a converged fit.
_NEAR = 1e-3  # Logits: no longer step is the last, whatever steps seem to shrink by.
_SLOWEST = 10.0  # At most so many last steps are thought to be left.
_HOPELESS_STRIDE = 1e6  # Logits: so long is a step only towards a solution that does not exist.
_DRIFT, _LEAST_GAIN = 0.1, 1e-8  # A step of so many logits that gains so little likelihood leads to none either.
_FULL_STRIDE = 1.0  # Logits: a whole step up to here gains at least a quarter of what its first order promises.
# A step from inexact conjugate gradients: the nearer the solution, the more exact (Eisenstat and Walker 1996).
_LOOSEST, _BY_STRIDE = 0.1, 0.03
_CAUTION = 10.0  # So much more than its tolerance may such a step be out where essays hang together loosely.
_SWEEPS = 2
_PROX_SCALE = 2.9  # 1.7 squared: the logistic curve is like a normal one with 1.7 times the standard deviation.


class Solution(NamedTuple):
    scores: FloatArray  # (n,) logits.
    iterations: int
    converged: bool


def adjusted(wins: FloatArray | IntArray, comparisons: FloatArray, epsilon: float) -> FloatArray:
    """Pull (n,) wins to the middle, so that neither none nor all of an essay's comparisons are won."""
    return epsilon + (comparisons - 2 * epsilon) / comparisons * wins


def solve(outcomes: Outcomes, adjusted_wins: FloatArray) -> Solution:
    """Solve for the scores.

    Where essays hang on single comparisons there may be no finite solution: scores drift apart without end. That
    is noticed and reported as not converged.
    """
    if not adjusted_wins.size:
        return Solution(adjusted_wins, 0, converged=True)
    odds = np.log(adjusted_wins / (outcomes.comparisons - adjusted_wins))
    solution = _newton(outcomes, adjusted_wins, _prox(outcomes, odds))
    if solution.converged:
        return solution
    # Where hardly anything is known of an opponent PROX may lie too far out to come back from.
    return _newton(outcomes, adjusted_wins, outcomes.components.centred(odds / 2))


def _prox(outcomes: Outcomes, odds: FloatArray) -> FloatArray:
    """Approximate the scores as if every essay's opponents were normally distributed (PROX, Linacre 1994)."""
    components, n = outcomes.components, outcomes.comparisons
    scores = components.centred(odds)
    for _ in range(_SWEEPS):
        level = outcomes.over_opponents(scores) / n
        spread = np.maximum(outcomes.over_opponents(scores * scores) / n - level * level, 0.0)
        scores = components.centred(level + np.sqrt(1 + spread / _PROX_SCALE) * odds)
    return scores


def _newton(outcomes: Outcomes, adjusted_wins: FloatArray, scores: FloatArray) -> Solution:
    """Improve `scores` until they solve the equations, with c V held fixed within a step."""
    last = 1.0
    for iteration in range(1, _MAX_ITERATIONS + 1):
        moments = outcomes.moments(scores)
        c = surplus(adjusted_wins, moments, outcomes.components)
        gap = adjusted_wins - moments.expected - c * moments.information
        tolerance = min(_LOOSEST, _BY_STRIDE * last)
        try:
            step = outcomes.newton_step(moments, gap, tolerance)
        except np.linalg.LinAlgError:
            break
        size = float(np.abs(step).max())
        stride = 2 * size if 2 * size <= _FULL_STRIDE else outcomes.stride(step)
        if not stride <= _HOPELESS_STRIDE or (stride > _DRIFT and gap @ step < _LEAST_GAIN):
            break
        scores = scores + damping(stride) * step
        shrinking = size / last if iteration > 1 else 1.0
        if size <= _NEAR and _left(size, max(shrinking, float(np.max(np.abs(c))), _CAUTION * tolerance)) <= _TOLERANCE:
            return Solution(scores, iteration, converged=True)
        last = size
    return Solution(scores, iteration, converged=False)


def surplus(adjusted_wins: FloatArray, moments: Moments, components: Components) -> FloatArray | float:
    """Return c, for each essay or for all: it makes s - E - c V add up to 0 in each component."""
    return components.total(adjusted_wins - moments.expected) / components.total(moments.information)


def _left(size: float, rate: float) -> float:
    """Return about how far the solution is after a step of `size`, if the steps to come shrink at `rate` each.

    Steps that shrink no more, or hardly, are rounding: going on gains nothing.
    """
    return size * min(_SLOWEST, rate / (1 - rate)) if rate < 1 else size


def damping(stride: float) -> float:
    """Shorten a step that changes the difference of two compared essays by up to `stride` logits.

    The log-likelihood is generalised self-concordant, so it always gains (Sun and Tran-Dinh 2019, case nu = 2).
    """
    return float(np.log1p(stride)) / stride if stride > _FULL_STRIDE else 1.0
