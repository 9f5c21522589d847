"""Which essays meet: balanced waves of ordered pairs.

A wave is a permutation without fixed points: every essay stands once as Essay A and once as Essay B. So after any
number of whole waves each essay was shown equally often on both sides, and within a wave, cut anywhere, at most
one time more on one side. An ordered pair is asked at most once; a pair turned round is asked only where nothing
new fits.

Essays are indices 0..n-1; a pair is (a, b), where a is shown as Essay A. All chance comes from the generator.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Pair = tuple[int, int]
Order = NDArray[np.int64]  # Essays in the order of a cycle, or an (m, 2) array of pairs.

_EVERY_PAIR_UP_TO = 5  # So few essays can all meet all others on both sides at once.
_FIRST_CYCLES = 4
_REPAIRS = 40  # Rounds in which a random cycle may swap away the pairs that it repeats.
_DENSE_LIMIT = 300  # More essays are assigned block by block, so that memory stays small.
_BLOCK = 200
_RETURN_ROUNDS = 20  # Rounds in which a wave may avoid asking a pair both ways round.


def first_iteration(n: int, budget: int, rng: np.random.Generator) -> list[Pair]:
    """Return the pairs to ask first, at most `budget`; any n - 1 or more of them join all essays.

    Five essays or fewer: every ordered pair once. More: four Hamiltonian cycles, 8 comparisons an essay. The
    pairs stand wave by wave, the first n along one cycle; a small budget cuts the list off.
    """
    if n <= 1 or budget <= 0:
        return []
    waves = _every_shift(n, rng) if n <= _EVERY_PAIR_UP_TO else map(_along, _first_cycles(n, rng))
    return _pairs(np.concatenate(list(waves)))[:budget]


def next_wave(n: int, asked: Collection[Pair], budget: int, rng: np.random.Generator) -> list[Pair]:
    """Return one more wave of ordered pairs not in `asked`, at most `budget`; [] when no ordered pair is left.

    Each essay stands at most once on each side, and exactly once while enough pairs are left. New pairs come
    before those that were asked the other way round. Raises ValueError for an essay in `asked` outside 0..n-1.
    """
    if budget <= 0 or len(asked) >= ceiling(n):
        return []
    done = np.array(list(asked), dtype=np.int64).reshape(-1, 2)
    if done.size and not (done.min() >= 0 and done.max() < n):
        raise ValueError(f"asked must hold essays from 0 to {n - 1}")
    waves = [_block_wave(block, n, done, rng) for block in _blocks(n, rng)]
    wave = np.concatenate(waves)
    if not wave.size:
        wave = _leftover_wave(n, done, rng)
    return _pairs(_new_first(wave, n, done))[:budget]


def ceiling(n: int) -> int:
    """Return how many ordered pairs `n` essays have: each may be asked once."""
    return n * (n - 1) if n > 1 else 0


def seed_for(batch_key: str, iteration: int, seed: int | None) -> int:
    """Return a seed (0 to 2^63 - 1) that depends on these three alone, on every machine; no seed means 0."""
    text = f"{seed or 0}:{iteration}:{batch_key}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _pairs(rows: Order) -> list[Pair]:
    return [(a, b) for a, b in rows.tolist()]


def _keys(rows: Order, n: int) -> Order:
    """Number ordered pairs, (m, 2) to (m,)."""
    return rows[:, 0] * n + rows[:, 1]


def _along(cycle: Order, shift: int = 1) -> Order:
    """Pair each essay of a cycle with the one `shift` places on."""
    return np.column_stack((cycle, np.roll(cycle, -shift)))


def _every_shift(n: int, rng: np.random.Generator) -> Iterator[Order]:
    cycle = rng.permutation(n)
    return (_along(cycle, shift) for shift in range(1, n))


def _first_cycles(n: int, rng: np.random.Generator) -> list[Order]:
    """Return four random Hamiltonian cycles that share no ordered pair, and no unordered one if n allows it."""
    cycles: list[Order] = []
    for _ in range(_FIRST_CYCLES):
        cycle = _fresh_cycle(n, cycles, rng)
        if cycle is None:
            return _zigzag_cycles(n, rng)
        cycles.append(cycle)
    return cycles


def _fresh_cycle(n: int, cycles: list[Order], rng: np.random.Generator) -> Order | None:
    """Draw a cycle without a pair of `cycles`, either way round; None when swapping essays did not get there."""
    used = [_keys(rows, n) for cycle in cycles for rows in (_along(cycle), _along(cycle)[:, ::-1])]
    taken = np.concatenate(used) if used else np.empty(0, np.int64)
    cycle = rng.permutation(n)
    for _ in range(_REPAIRS):
        repeated = np.flatnonzero(np.isin(_keys(_along(cycle), n), taken))
        if not repeated.size:
            return cycle
        for place, other in zip(repeated, rng.integers(n, size=repeated.size), strict=True):
            cycle[[place, other]] = cycle[[other, place]]
    return None


def _zigzag_cycles(n: int, rng: np.random.Generator) -> list[Order]:
    """Return four cycles by Walecki's construction, relabelled at random; it never fails for six essays or more.

    The complete graph holds (n - 1) // 2 Hamiltonian cycles without a common pair: 0, 1, -1, 2, -2, ... on a
    circle of an even number of essays, turned step by step, and closed through an essay at the centre. If n is
    even, one more essay goes into the middle of each, where the two neighbours lie opposite on the circle: turned,
    they never come back. Under nine essays there are fewer than four; then cycles are walked backwards too.
    """
    half = (n - 1) // 2
    steps = np.arange(2 * half)
    zigzag = np.where(steps % 2 == 1, (steps + 1) // 2, -(steps // 2))
    forward = [np.append(2 * half, (zigzag + turn) % (2 * half)) for turn in rng.permutation(half)]
    if n % 2 == 0:
        forward = [np.insert(cycle, half + 1, n - 1) for cycle in forward]
    cycles = forward + [cycle[::-1] for cycle in forward]
    label = rng.permutation(n)
    return [label[cycle] for cycle in cycles[:_FIRST_CYCLES]]


def _blocks(n: int, rng: np.random.Generator) -> list[Order]:
    count = 1 if n <= _DENSE_LIMIT else -(-n // _BLOCK)
    return np.array_split(rng.permutation(n), count)


def _block_wave(block: Order, n: int, done: Order, rng: np.random.Generator) -> Order:
    """Assign to each essay of the block its Essay B; essays for which no pair is left drop out."""
    place = np.full(n, -1)
    place[block] = np.arange(block.size)
    inside = place[done]
    inside = inside[(inside >= 0).all(axis=1)]
    used = np.eye(block.size, dtype=bool)
    used[inside[:, 0], inside[:, 1]] = True
    partner = _assignment(used, rng)
    free = ~used[np.arange(block.size), partner]
    return np.column_stack((block, block[partner]))[free]


def _assignment(used: NDArray[np.bool_], rng: np.random.Generator) -> Order:
    """Return a permutation with the fewest pairs that are used, then the fewest that are used turned round.

    Chance decides the rest: it costs less than 1 an essay, so n + 1 outweighs all of it, and so on. Where a pair
    comes both ways round, one of the two is made as dear as a repeat and the assignment solved again.
    """
    n = len(used)
    repeat = n + 1.0
    plain = rng.random((n, n)) + repeat * used.T + repeat * (n + 1) * used
    cost = plain.copy()
    for _ in range(_RETURN_ROUNDS):
        partner = np.asarray(linear_sum_assignment(cost)[1], np.int64)
        returns = _both_ways(partner, used)
        returns = returns[cost[returns, partner[returns]] == plain[returns, partner[returns]]]
        if not returns.size:
            break
        cost[returns, partner[returns]] += repeat
    return partner


def _both_ways(partner: Order, used: NDArray[np.bool_]) -> Order:
    """Return one essay of each couple that a wave would ask both ways round."""
    essay = np.arange(partner.size)
    mutual = (partner[partner] == essay) & (essay < partner)
    return np.flatnonzero(mutual & ~used[essay, partner] & ~used[partner, essay])


def _leftover_wave(n: int, done: Order, rng: np.random.Generator) -> Order:
    """Return what is left across the blocks. Half of all pairs were asked by then: a list of n^2 is no larger."""
    left = np.ones((n, n), dtype=bool)
    np.fill_diagonal(left, val=False)
    left[done[:, 0], done[:, 1]] = False
    wave = []
    for a, b in rng.permutation(np.argwhere(left)):
        if left[a, b]:
            wave.append((a, b))
            left[a, :] = False
            left[:, b] = False
    return np.array(wave, dtype=np.int64).reshape(-1, 2)


def _new_first(wave: Order, n: int, done: Order) -> Order:
    """Put pairs that were asked turned round behind the others; for the rest the order stays random."""
    turned = np.isin(_keys(wave, n), _keys(done[:, ::-1], n))
    return np.concatenate((wave[~turned], wave[turned]))
