"""Designs: which comparisons are asked next, given all answers so far.

The product's own pairing, and what it is measured against. Each design returns the pairs (first, second) of one
more round, at most `budget` of them, and [] when it has none left. All chance comes from the generator.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cjtasks.domain import pairing, scoring, waves
from cjtasks.research.measures import winners_and_losers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cjtasks.domain.pairing import Pair
    from cjtasks.domain.votes import Answers, FloatArray, IntArray

    Design: TypeAlias = Callable[[Answers, int, np.random.Generator], list[Pair]]

_MET = 1e6  # Logits; more than scores ever differ by, so that nobody meets again before all else is impossible.
_LEAST_GAIN = 1e-9  # Logits; less is rounding.


class DesignName(StrEnum):
    OURS = "ours"
    RANDOM = "random"
    SWISS = "swiss"
    MATCHING = "matching"


def ours(answers: Answers, budget: int, rng: np.random.Generator) -> list[Pair]:
    """Pair as a batch is paired: four random cycles, then waves of the most informative pairs."""
    if not answers.first.size:
        return pairing.first_iteration(answers.n, budget, rng)
    history = pairing.History(answers.n, _asked(answers), answers.first_won.astype(np.int64))
    return pairing.next_wave(history, budget, rng)


def random(answers: Answers, budget: int, rng: np.random.Generator) -> list[Pair]:
    """Pair at random in balanced waves: four cycles, then permutations; a pair comes again only turned round."""
    if not answers.first.size:
        return pairing.first_iteration(answers.n, budget, rng)
    n = answers.n
    nearly_equal = 1 + np.triu(rng.random((n, n)), 1) / 100
    wave = waves.best_wave(nearly_equal + nearly_equal.T, np.zeros(n), _asked(answers), rng)
    return _pairs(rng.permutation(wave), budget)


def swiss(answers: Answers, budget: int, rng: np.random.Generator) -> list[Pair]:
    """Pair down the present ranking: each essay meets the nearest one below it that is free and that it has not met.

    One round of n // 2 pairs, scored anew before each, as in a Swiss tournament of chess. Where the last ones of a
    round have all met, couples exchange partners.
    """
    distance, ranked = _distances(answers, rng)
    free = list(ranked)
    couples = []
    while len(free) > 1:
        essay = free.pop(0)
        couples.append((essay, free.pop(int(np.argmin(distance[essay, free])))))
    settled = _exchanged(np.array(couples, np.int64), distance, least_gain=_MET / 2)
    return _balanced(settled, answers, rng)[:budget]


def matching(answers: Answers, budget: int, rng: np.random.Generator) -> list[Pair]:
    """Match all essays at once so that those with close scores meet that have not met before.

    One round of n // 2 pairs with nearly the least total difference in score: the closest first, then any two
    pairs exchange partners as long as that helps. With an odd number the essay with the most comparisons sits out.
    """
    distance, ranked = _distances(answers, rng)
    couples = _exchanged(_closest_first(distance, ranked), distance, _LEAST_GAIN)
    return _balanced(couples, answers, rng)[:budget]


DESIGNS: Mapping[DesignName, Design] = {
    DesignName.OURS: ours,
    DesignName.RANDOM: random,
    DesignName.SWISS: swiss,
    DesignName.MATCHING: matching,
}


def _asked(answers: Answers) -> IntArray:
    return np.column_stack((answers.first, answers.second))


def _pairs(rows: IntArray, budget: int) -> list[Pair]:
    return [(a, b) for a, b in rows[:budget].tolist()]


def _distances(answers: Answers, rng: np.random.Generator) -> tuple[FloatArray, list[int]]:
    """Return how far essays are apart in score, (n, n), those that met farther, and the ranking without a bye."""
    n = answers.n
    scores = _scores(answers)
    met = np.zeros((n, n))
    np.add.at(met, (answers.first, answers.second), 1)
    distance = np.abs(scores[:, None] - scores) + _MET * (met + met.T)
    shuffled = rng.permutation(n)
    if n % 2:
        counts = met.sum(axis=0) + met.sum(axis=1)
        shuffled = np.delete(shuffled, np.argmax(counts[shuffled]))
    return distance, shuffled[np.argsort(-scores[shuffled], kind="stable")].tolist()


def _scores(answers: Answers) -> FloatArray:
    scores = scoring.fit(*winners_and_losers(answers), answers.n).scores
    return np.nan_to_num(scores)


def _closest_first(distance: FloatArray, essays: list[int]) -> IntArray:
    """Couple the two closest essays, then the two closest of the rest, and so on, (n // 2, 2)."""
    among = distance[np.ix_(essays, essays)]
    rows, columns = np.triu_indices(len(essays), 1)
    free = np.ones(len(essays), dtype=np.bool_)
    couples = []
    for place in np.argsort(among[rows, columns], kind="stable"):
        a, b = rows[place], columns[place]
        if free[a] and free[b]:
            free[[a, b]] = False
            couples.append((essays[a], essays[b]))
    return np.array(couples, dtype=np.int64).reshape(-1, 2)


def _exchanged(couples: IntArray, distance: FloatArray, least_gain: float) -> IntArray:
    """Let the two couples exchange partners that come closest by it, until none gains more than `least_gain`."""
    while len(couples) > 1:
        turned, one, other, gain = _best_exchange(couples, distance)
        if gain <= least_gain:
            break
        if turned:
            couples[other] = couples[other, ::-1]
        couples[[one, other], 1] = couples[[other, one], 1]
    return couples


def _best_exchange(couples: IntArray, distance: FloatArray) -> tuple[int, int, int, float]:
    """Return whether to turn the second of two couples round first, which two couples they are, and the gain."""
    a, b = couples.T
    apart = distance[a, b]
    as_they_stand = distance[np.ix_(a, b)] + distance[np.ix_(b, a)]
    turned = distance[np.ix_(a, a)] + distance[np.ix_(b, b)]
    gain = apart[:, None] + apart - np.stack((as_they_stand, turned))
    gain[:, np.arange(len(a)), np.arange(len(a))] = 0.0
    best = int(np.argmax(gain))
    way, one, other = (int(place) for place in np.unravel_index(best, gain.shape))
    return way, one, other, float(gain.flat[best])


def _balanced(couples: IntArray, answers: Answers, rng: np.random.Generator) -> list[Pair]:
    """Show first the essay that was first less often; an equal couple stands at random."""
    lead = np.bincount(answers.first, minlength=answers.n) - np.bincount(answers.second, minlength=answers.n)
    chance = rng.random(answers.n)
    return [(a, b) if (lead[a], chance[a]) < (lead[b], chance[b]) else (b, a) for a, b in couples.tolist()]
