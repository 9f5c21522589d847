"""The posterior of the scores under a normal prior, whatever rule chose the pairs.

The model: essay i beats essay j with probability P_ij = 1 / (1 + exp(score_j - score_i)), and the scores come from
N(0, s^2) with s the prior's standard deviation. A rule that chooses pairs by earlier answers leaves the likelihood
as it is; one that knows more of the essays than the answers tell does not.

The mode solves wins_i - E_i - score_i / s^2 = 0. The mean, the covariance and the log marginal likelihood of s
are those of Laplace's method carried to second order (Tierney and Kadane 1986; Shun and McCullagh 1995). Against
importance sampling at 6 to 20 essays and s up to 2 the log marginal likelihood is off by 0.03 at most, a mean by
0.03 and a covariance by 2 % up to s = 1 and by 13 % at s = 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, log_expit

from cjtasks.domain.precision import DenseSpread, Information, SampledSpread

if TYPE_CHECKING:
    from cjtasks.domain.precision import Noise, Spread
    from cjtasks.domain.votes import FloatArray, Votes

_MOST_STEPS = 100
_LAST_STEP = 1e-4  # Logits; what Newton's method then leaves is about its square.
_STEP_TOLERANCE = 1e-3  # Relative, so that an inexact step leaves no more either.
# The cubic terms of the second order are u'Cu / 8 and a sum over pairs of pairs. That sum would cost the square of
# the pairs; on simulated batches of 30 and 100 essays it is close to 0.025 u'Cu.
_CUBIC = 1 / 8 + 0.025


@dataclass(frozen=True, slots=True)
class Fit:
    """The posterior for one prior; all scores in logits with mean 0."""

    prior_sd: float
    mode: FloatArray  # (n,)
    mean: FloatArray  # (n,) of the posterior, to second order.
    spread: Spread  # Around the mean.
    log_marginal: float  # log m(s) - log m(0)

    @property
    def covariance(self) -> FloatArray | None:
        """The joint covariance, (n, n); None where it is sampled."""
        return self.spread.covariance if isinstance(self.spread, DenseSpread) else None

    @property
    def error(self) -> float:
        """The expected squared distance of the true scores from the mean, summed over the essays."""
        return float(self.spread.variances().sum())

    @property
    def signal(self) -> float:
        return float(self.mean @ self.mean)

    @property
    def reliability(self) -> float:
        """The share of the scores' variance that is not error."""
        return self.signal / max(self.signal + self.error, np.finfo(np.float64).tiny)


def at(votes: Votes, prior_sd: float, *, start: FloatArray | None = None, noise: Noise | None = None) -> Fit:
    """Fit the posterior for a given prior; `start` is a mode to begin from, (n,).

    With `noise` the covariance is sampled, in memory for the pairs only.
    Raises ValueError unless `prior_sd` is above 0.
    """
    scores = mode(votes, prior_sd, start=start)
    at_mode = _spread(information(votes, scores, prior_sd), noise)
    widths = at_mode.difference_variances(votes.pairs.low, votes.pairs.high)
    skew = _skew(votes, scores, widths)
    shift = at_mode.times(skew) / 2
    mean = _centred(scores + shift)
    spread = _spread(_averaged_information(votes, mean, widths, prior_sd), noise)
    first_order = _first_order(votes, scores, prior_sd, at_mode.log_determinant)
    second_order = _quartic(votes, scores, widths) + _CUBIC * 2 * float(skew @ shift)
    return Fit(prior_sd, scores, mean, spread, first_order + second_order)


def mode(votes: Votes, prior_sd: float, *, start: FloatArray | None = None) -> FloatArray:
    """Return the most probable scores under the prior, (n,), by Newton's method.

    Raises ValueError unless `prior_sd` is above 0. It always exists: the prior holds what no comparison joins.
    """
    if not prior_sd > 0:
        raise ValueError(f"prior_sd must be above 0, got {prior_sd}")
    scores = np.zeros(votes.pairs.n) if start is None else start
    if not votes.count.size:
        return np.zeros(votes.pairs.n)
    for _ in range(_MOST_STEPS):
        step = information(votes, scores, prior_sd).solve(_gradient(votes, scores, prior_sd), _STEP_TOLERANCE)
        scores = scores + _damping(float(np.max(np.abs(votes.pairs.lead(step)), initial=0.0))) * step
        if np.max(np.abs(step), initial=0.0) <= _LAST_STEP:
            break
    return _centred(scores)


def information(votes: Votes, scores: FloatArray, prior_sd: float) -> Information:
    """Return the curvature of the log posterior at some scores: each pair weighs votes * P (1 - P).

    How the votes are split does not matter, so that comparisons still to be answered may stand with any answer.
    """
    p = expit(votes.pairs.lead(scores))
    return Information(votes.pairs, votes.count * p * (1 - p), prior_sd**-2)


def _gradient(votes: Votes, scores: FloatArray, prior_sd: float) -> FloatArray:
    expected = votes.count * expit(votes.pairs.lead(scores))
    return votes.wins - votes.pairs.over_essays(expected, votes.count - expected) - scores / prior_sd**2


def _centred(scores: FloatArray) -> FloatArray:
    return np.asarray(scores - scores.sum() / max(scores.size, 1))


def _damping(stride: float) -> float:
    """Shorten a step that moves two compared essays apart by `stride`, so that the likelihood always gains.

    It is generalised self-concordant (Sun and Tran-Dinh 2019, case nu = 2).
    """
    return float(np.log1p(stride)) / stride if stride > 0 else 1.0


def _spread(given: Information, noise: Noise | None) -> Spread:
    return DenseSpread.of(given) if noise is None else SampledSpread.of(given, noise)


def _averaged_information(votes: Votes, mean: FloatArray, widths: FloatArray, prior_sd: float) -> Information:
    """Average the curvature over the posterior: the logistic curve smoothed by a normal of variance `widths`.

    The smoothed curve is about logistic(k x) with k = 1 / sqrt(1 + pi width / 8) (MacKay 1992).
    """
    flattening = 1 / np.sqrt(1 + np.pi / 8 * widths)
    p = expit(flattening * votes.pairs.lead(mean))
    return Information(votes.pairs, votes.count * flattening * p * (1 - p), prior_sd**-2)


def _skew(votes: Votes, scores: FloatArray, widths: FloatArray) -> FloatArray:
    """Return u: how the third derivatives pull each score off the mode, (n,)."""
    p = expit(votes.pairs.lead(scores))
    pull = -votes.count * p * (1 - p) * (1 - 2 * p) * widths
    return votes.pairs.over_essays(pull, -pull)


def _first_order(votes: Votes, scores: FloatArray, prior_sd: float, log_determinant: float) -> float:
    """Return Laplace's log marginal likelihood, relative to that of no differences (every P = 1/2)."""
    lead = votes.pairs.lead(scores)
    likelihood = float(votes.low_wins @ log_expit(lead) + votes.high_wins @ log_expit(-lead))
    gain = likelihood + float(votes.count.sum()) * math.log(2)
    return gain - (float(scores @ scores) / prior_sd**2 + log_determinant) / 2 - scores.size * math.log(prior_sd)


def _quartic(votes: Votes, scores: FloatArray, widths: FloatArray) -> float:
    p = expit(votes.pairs.lead(scores))
    q = p * (1 - p)
    return -float((votes.count * q * (1 - 6 * q) * widths**2).sum()) / 8
