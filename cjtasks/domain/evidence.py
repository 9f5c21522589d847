"""What the answers tell about the standard deviation s of the true scores: its marginal likelihood over a grid.

No comparison tells anything about the common mean, so that the maximum is that of restricted maximum likelihood
(REML; Patterson and Thompson 1971).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

from cjtasks.domain import posterior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cjtasks.domain.posterior import Fit
    from cjtasks.domain.precision import Noise
    from cjtasks.domain.votes import FloatArray, Votes

_GRID = (0.07, 0.15, 0.3, 0.5, 0.75, 1.05, 1.45, 2.0, 2.7, 3.6, 4.8, 6.5)  # Logits; 0 belongs to it and needs no fit.
_FAR_BELOW = 12.0  # So much log likelihood under the best, a prior counts for nothing.
_FINE = 801  # Points between 0 and the last fit.
_BEND = 0.3  # Logits; below it the scale of interpolation is about linear in s, above it in log s.
_SAME = 1e-9  # Differences of log likelihood that are but rounding.


@dataclass(frozen=True, slots=True)
class Evidence:
    """The posterior of s under a flat prior from 0 to the end of the grid, on fine points, and the fits behind it."""

    fits: Sequence[Fit]
    prior_sds: FloatArray  # (points,) s
    log_marginal: FloatArray  # (points,) log m(s) - log m(0)
    reliability: FloatArray  # (points,) at each s
    probability: FloatArray  # (points,) of each point; adds up to 1.
    weights: FloatArray  # (fits,) the share of each fit; what is left to 1 belongs to s = 0.

    @property
    def best(self) -> int:
        """The point of maximum likelihood; the smallest of equals, so that without answers s is 0."""
        return int(np.argmax(self.log_marginal >= self.log_marginal.max() - _SAME))

    @property
    def prior_sd(self) -> float:
        """The estimate of s."""
        return float(self.prior_sds[self.best])

    @property
    def likelihood_ratio(self) -> float:
        return 2 * max(float(self.log_marginal[self.best]), 0.0)

    def reliability_quantiles(self, levels: Sequence[float]) -> list[float]:
        """Return the reliability at quantiles of s, with which it rises."""
        points = np.searchsorted(np.cumsum(self.probability), levels).clip(0, _FINE - 1)
        return [float(value) for value in self.reliability[points]]


def weigh(votes: Votes, noise: Noise | None) -> Evidence:
    """Fit the posterior for every prior of the grid that counts, and weigh them against each other."""
    fits = _fits(votes, noise)
    knots = _scale(np.array([0.0, *(fit.prior_sd for fit in fits)]))
    points = np.linspace(0.0, knots[-1], _FINE)
    prior_sds = _BEND * np.expm1(points)
    at_knots = [(0.0, 0.0), *((fit.log_marginal, fit.reliability) for fit in fits)]
    log_marginal, reliability = CubicSpline(knots, at_knots)(points).T
    reliability = reliability.clip(0.0, 1.0)
    probability = _probability(log_marginal, prior_sds)
    shares = [float(probability @ np.interp(points, knots, one)) for one in np.eye(knots.size)[1:]]
    return Evidence(fits, prior_sds, log_marginal, reliability, probability, np.array(shares))


def _fits(votes: Votes, noise: Noise | None) -> list[Fit]:
    """Fit from small s to large, until larger ones no longer count."""
    fits: list[Fit] = []
    best = 0.0  # That of no differences.
    for prior_sd in _GRID:
        start = fits[-1].mode if fits else None
        fits.append(posterior.at(votes, prior_sd, start=start, noise=noise))
        best = max(best, fits[-1].log_marginal)
        if fits[-1].log_marginal < best - _FAR_BELOW:
            break
    return fits


def _scale(prior_sds: FloatArray) -> FloatArray:
    """Return the scale on which log m(s) and the reliability are smooth."""
    return np.log1p(prior_sds / _BEND)


def _probability(log_marginal: FloatArray, prior_sds: FloatArray) -> FloatArray:
    density = np.exp(log_marginal - log_marginal.max()) * np.gradient(prior_sds)
    density[[0, -1]] /= 2
    return np.asarray(density / density.sum())
