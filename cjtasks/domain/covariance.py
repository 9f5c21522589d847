"""The joint covariance of Bradley-Terry scores, for intervals on the differences between essays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cjtasks.domain.outcomes import check_indices, odds_against

if TYPE_CHECKING:
    from cjtasks.domain.laplacian import FloatArray
    from cjtasks.domain.outcomes import IntArray
    from cjtasks.domain.scoring import BradleyTerryFit

_MOST_ESSAYS = 3000  # Their matrix has 72 MB, and its inverse takes seconds.


def joint_covariance(winners: IntArray, losers: IntArray, fitted: BradleyTerryFit) -> FloatArray:
    """Return the (n, n) covariance of scores that add up to 0: the pseudo-inverse of the information matrix.

    `winners` and `losers` are those that were fitted. Where two essays have no common scale, or one has no
    comparisons, the covariance is nan. Raises ValueError for more essays than a dense matrix is meant for.
    """
    n = fitted.scores.size
    if n > _MOST_ESSAYS:
        raise ValueError(f"the joint covariance is for at most {_MOST_ESSAYS} essays, got {n}")
    check_indices("winners and losers", winners, losers, n)
    joined = np.equal.outer(fitted.component, fitted.component) & (fitted.component >= 0)
    information = _laplacian(winners, losers, fitted.scores)
    # Constants within a component, which L leaves free, are given a variance of 1, and that is taken off again.
    constant = joined / np.maximum(joined.sum(axis=1), 1)
    unseen = np.diag((fitted.component < 0).astype(np.float64))
    return np.where(joined, np.linalg.inv(information + constant + unseen) - constant, np.nan)


def difference_errors(covariance: FloatArray) -> FloatArray:
    """Return the (n, n) standard errors of the differences between scores with such a covariance; nan stays nan."""
    variances = np.diag(covariance)
    squared = variances[:, None] + variances - 2 * covariance
    return np.sqrt(np.maximum(squared, 0.0))


def _laplacian(winners: IntArray, losers: IntArray, scores: FloatArray) -> FloatArray:
    n = scores.size
    chance = 1 / (1 + odds_against(scores[losers] - scores[winners]))
    weights = np.bincount(winners * n + losers, chance * (1 - chance), n * n).reshape(n, n)
    weights += weights.T
    return np.diag(weights.sum(axis=1)) - weights
