"""One wave of pairs, chosen by linear assignment: the most information that fits, with both sides balanced.

A wave is a permutation without fixed points: every essay stands once as Essay A and once as Essay B. An ordered
pair that was asked is forbidden; one that was asked the other way round loses a quarter of the largest gain, so
that it comes only where nothing new is nearly as good.

Essays are indices 0..n-1. `gain` is (n, n) and symmetric, above 0 off the diagonal; what is on it does not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cjtasks.domain.votes import FloatArray, IntArray

_TURNED = 0.25  # What a pair turned round loses, as a share of the largest gain.
_WHOLE_LIMIT = 300  # The time of an assignment grows with n^3: more essays are assigned in blocks.
_BLOCK = 200


def best_wave(gain: FloatArray, scores: FloatArray, asked: IntArray, rng: np.random.Generator) -> IntArray:
    """Return the wave (m, 2) with nearly the largest total gain, the most informative pair first.

    m = n whenever all essays still fit. Of the (k, 2) ordered pairs `asked` none comes again, and no pair comes
    both ways round where exchanging two partners avoids it. More than 300 essays meet within blocks of
    neighbours by `scores` (n,), cut anew in each wave. Chance decides between equals.
    """
    cost = _cost(gain, asked)
    wave = _assigned(cost, _blocks(scores, rng))
    if len(wave) < len(scores):
        wave = _assigned(cost, [rng.permutation(len(scores))])
    return wave[np.argsort(cost[wave[:, 0], wave[:, 1]], kind="stable")]


def _cost(gain: FloatArray, asked: IntArray) -> FloatArray:
    """Return what each ordered pair costs: -1 to 1/4, or more than a whole wave could save where it is forbidden."""
    n = len(gain)
    a, b = asked.T
    cost = gain / -np.max(gain, where=~np.eye(n, dtype=bool), initial=0.0)
    cost[b, a] += _TURNED
    cost[a, b] = _forbidden(n)
    np.fill_diagonal(cost, _forbidden(n))
    return cost


def _forbidden(n: int) -> float:
    return 4.0 * n


def _blocks(scores: FloatArray, rng: np.random.Generator) -> list[IntArray]:
    """Cut the essays in the order of their scores; the first cut falls at random in the middle of a block's length."""
    shuffled = rng.permutation(scores.size)
    if scores.size <= _WHOLE_LIMIT:
        return [shuffled]
    ordered = shuffled[np.argsort(scores[shuffled], kind="stable")]
    count = -(-scores.size // _BLOCK)
    cuts = (np.arange(count) + rng.uniform(1 / 3, 2 / 3)) * scores.size / count
    return [rng.permutation(block) for block in np.split(ordered, cuts.astype(np.int64))]


def _assigned(cost: FloatArray, blocks: Iterable[IntArray]) -> IntArray:
    """Assign within each block; essays for which no allowed pair is left drop out."""
    assigned = [np.column_stack((block, block[_partners(cost[np.ix_(block, block)])])) for block in blocks]
    wave: IntArray = np.concatenate(assigned)
    return wave[cost[wave[:, 0], wave[:, 1]] < _forbidden(len(cost))]


def _partners(cost: FloatArray) -> IntArray:
    """Return the Essay B of each essay, as a permutation (block,).

    The gain of a pair is the same both ways round, so that the cheapest assignment is full of pairs that stand
    in it twice.
    """
    partner = np.asarray(linear_sum_assignment(cost)[1], np.int64)
    for essay in np.flatnonzero(partner[partner] == np.arange(partner.size)).tolist():
        if partner[partner[essay]] == essay:
            _exchange(cost, partner, essay)
    return partner


def _exchange(cost: FloatArray, partner: IntArray, essay: int) -> None:
    """Exchange partners with the essay where it costs least; this joins two cycles of the permutation to one."""
    returned = partner[essay]
    change = cost[essay, partner] + cost[:, returned] - cost[np.arange(partner.size), partner]
    change[essay] = np.inf
    other = int(np.argmin(change))
    if max(cost[essay, partner[other]], cost[other, returned]) <= _TURNED:
        partner[[essay, other]] = partner[[other, essay]]
