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
    from cjtasks.domain.outcomes import Components, Moments, Outcomes

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-9  # Logits: what is thought to be left of the error in a converged fit.
_HOPELESS_STRIDE = 1e6  # Logits: so long is a step only towards a solution that does not exist.
_DRIFT, _LEAST_GAIN = 0.1, 1e-8  # A step of so many logits that gains so little likelihood leads to none either.
_FULL_STRIDE = 1.0  # Logits: a whole step up to here gains at least a quarter of what its first order promises.
_SWEEPS = 2
_FARTHEST_START = 4.0  # Logits: Newton's method comes back from too near in small steps, from too far in a wild one.
_PROX_SCALE = 2.9  # 1.7 squared: the logistic curve is like a normal one with 1.7 times the standard deviation.


class Solution(NamedTuple):
    scores: FloatArray  # (n,) logits.
    iterations: int
    converged: bool


def solve(outcomes: Outcomes, adjusted_wins: FloatArray) -> Solution:
    """Solve for the scores, with c V held fixed within a step.

    Where essays hang on single comparisons there may be no finite solution: scores drift apart without end. That
    is noticed and reported as not converged.
    """
    if not adjusted_wins.size:
        return Solution(adjusted_wins, 0, converged=True)
    components = outcomes.components
    scores, last = _start(outcomes, adjusted_wins), 1.0
    for iteration in range(1, _MAX_ITERATIONS + 1):
        moments = outcomes.moments(scores)
        gap = _gap(components, adjusted_wins, moments)
        tolerance = outcomes.tolerance(last)
        try:
            step = components.centred(outcomes.newton_step(moments, gap, tolerance))
        except np.linalg.LinAlgError:
            break
        size = float(step.max() - step.min())
        stride = outcomes.stride(step) if size > _DRIFT else size
        if not stride <= _HOPELESS_STRIDE or (stride > _DRIFT and gap @ step < _LEAST_GAIN):
            break
        scores = scores + _damping(stride) * step
        rate = max(size / last, tolerance) if iteration > 1 else 1.0
        if size * min(rate, 1.0) <= _TOLERANCE:
            return Solution(scores, iteration, converged=True)
        last = size
    return Solution(scores, iteration, converged=False)


def _start(outcomes: Outcomes, adjusted_wins: FloatArray) -> FloatArray:
    """Approximate the scores by PROX, as if every essay's opponents were normally distributed (Linacre 1994)."""
    components, n = outcomes.components, outcomes.comparisons
    odds = np.clip(np.log(adjusted_wins / (n - adjusted_wins)), -_FARTHEST_START, _FARTHEST_START)
    scores = components.centred(odds)
    for _ in range(_SWEEPS):
        level = outcomes.over_opponents(scores) / n
        spread = np.maximum(outcomes.over_opponents(scores * scores) / n - level * level, 0.0)
        scores = components.centred(level + np.sqrt(1 + spread / _PROX_SCALE) * odds)
    return scores


def _gap(components: Components, wins: FloatArray, moments: Moments) -> FloatArray:
    """Return s - E - c V, which adds up to 0 in each component."""
    missing = wins - moments.expected
    surplus = components.total(missing) / components.total(moments.information)
    return missing - surplus * moments.information


def _damping(stride: float) -> float:
    """Shorten a step that changes the difference of two compared essays by up to `stride` logits.

    The log-likelihood is generalised self-concordant, so it always gains (Sun and Tran-Dinh 2019, case nu = 2).
    """
    return float(np.log1p(stride)) / stride if stride > _FULL_STRIDE else 1.0
