"""What may be said of a ranking: between which ranks an essay lies, and whether its neighbours might change places.

Everything follows from a joint normal posterior of the scores; rank 1 is the highest score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from cjtasks.domain.votes import FloatArray, IntArray

_SURE = 0.95


class Scores(Protocol):
    """Scores of which each difference has a known mean and variance."""

    def means(self) -> FloatArray:
        """Return the scores, (n,)."""

    def difference_variances(self, first: IntArray, second: IntArray) -> FloatArray:
        """Return the variance of score[first] - score[second] for pairs of different essays, (pairs,)."""


@dataclass(frozen=True, slots=True)
class RankIntervals:
    low: IntArray  # (n,) the best rank that is credible, from 1.
    high: IntArray  # (n,) the worst.


def rank_intervals(draws: FloatArray, level: float = _SURE) -> RankIntervals:
    """Return the interval of each essay's rank from (draws, n) scores drawn from the posterior."""
    ranks = (-draws).argsort(axis=1).argsort(axis=1) + 1
    tail = (1 - level) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0, method="inverted_cdf").astype(np.int64)
    return RankIntervals(low, high)


def order(scores: Scores) -> IntArray:
    """Return the essays from the highest score to the lowest, (n,); equal ones by their index."""
    return np.argsort(-scores.means(), kind="stable")


def swap_probabilities(scores: Scores) -> FloatArray:
    """Return the probability that each essay is in truth below the next one of the ranking, (n - 1,), 0 to 0.5."""
    ranking = order(scores)
    return _probability_below(scores, ranking[:-1], ranking[1:])


def groups(scores: Scores, sure: float = _SURE) -> list[IntArray]:
    """Divide the ranking into groups of essays that cannot be told apart, best group first.

    From the top down, an essay joins the group above it unless the first essay of that group is better than it
    with a probability of at least `sure`; then it opens a group of its own. So every member may be as good as the
    first of its group. Members of neighbouring groups may still be close to each other.
    """
    ranking, found = order(scores), []
    while ranking.size:
        better = np.append(_probability_below(scores, ranking[:1], ranking[1:]) <= 1 - sure, True)
        size = 1 + int(better.argmax())
        found.append(ranking[:size])
        ranking = ranking[size:]
    return found


def _probability_below(scores: Scores, first: IntArray, second: IntArray) -> FloatArray:
    """Return P(score[first] < score[second]) for each pair; 1/2 where neither the mean nor the truth differs."""
    first, second = np.broadcast_arrays(first, second)
    means = scores.means()
    lead, variance = means[first] - means[second], scores.difference_variances(first, second)
    return np.asarray(norm.sf(lead / np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))))
