"""The posterior of the scores when the prior's standard deviation is itself uncertain: a mixture of fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cjtasks.domain.posterior import Fit
    from cjtasks.domain.votes import FloatArray, IntArray

_TIE_BREAK = 1e-6  # Logits.


@dataclass(frozen=True, slots=True)
class Mixture:
    """Fits for several priors, each as likely as its weight; what the weights leave to 1 has no differences at all."""

    n: int
    fits: Sequence[Fit]
    weights: FloatArray  # (fits,)

    def means(self) -> FloatArray:
        """Return the scores, (n,), logits with mean 0."""
        return sum((weight * fit.mean for weight, fit in self._weighted()), np.zeros(self.n))

    def variances(self) -> FloatArray:
        """Return the variance of each score, (n,)."""
        squares = (weight * (fit.spread.variances() + fit.mean**2) for weight, fit in self._weighted())
        return np.maximum(sum(squares, np.zeros(self.n)) - self.means() ** 2, 0.0)

    def covariance(self) -> FloatArray | None:
        """Return the joint covariance, (n, n), or None where it is sampled."""
        means = self.means()
        total = -np.outer(means, means)
        for weight, fit in self._weighted():
            if fit.covariance is None:
                return None
            total += weight * (fit.covariance + np.outer(fit.mean, fit.mean))
        return total

    def difference_variances(self, first: IntArray, second: IntArray) -> FloatArray:
        """Return the variance of score[first] - score[second] for pairs of different essays, (pairs,)."""
        means = self.means()
        total = -((means[first] - means[second]) ** 2)
        for weight, fit in self._weighted():
            lead = fit.mean[first] - fit.mean[second]
            total += weight * (fit.spread.difference_variances(first, second) + lead**2)
        return np.maximum(total, 0.0)

    def draws(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Draw scores, (count, n); where there are no differences chance alone puts the essays in an order."""
        rest = max(1 - float(self.weights.sum()), 0.0)
        shares = np.array([*self.weights, rest])
        *counts, tied = rng.multinomial(count, shares / shares.sum())
        drawn = [fit.mean + fit.spread.draws(k, rng) for k, fit in zip(counts, self.fits, strict=True) if k]
        return np.concatenate([*drawn, _TIE_BREAK * rng.standard_normal((tied, self.n))])

    def _weighted(self) -> zip[tuple[float, Fit]]:
        return zip(self.weights.tolist(), self.fits, strict=True)
