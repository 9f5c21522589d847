"""Random Hamiltonian cycles through all essays: what a batch asks before anything is known of it.

A cycle is an (n,) array of essays, each of them once; read as pairs it shows every essay once as Essay A and once
as Essay B, and joins them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.domain.votes import IntArray

_CYCLES = 4
_REPAIRS = 40  # Rounds in which a random cycle may swap away the pairs that it repeats.


def every_shift(n: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield every ordered pair of `n` essays once, as n - 1 waves (n, 2); the first runs along one cycle."""
    cycle = rng.permutation(n)
    return (_along(cycle, shift) for shift in range(1, n))


def four_cycles(n: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield four waves (n, 2) along random cycles of six essays or more.

    They share no ordered pair, and from nine essays on no pair at all.
    """
    return map(_along, _cycles(n, rng))


def _along(cycle: IntArray, shift: int = 1) -> IntArray:
    """Pair each essay of a cycle with the one `shift` places on."""
    return np.column_stack((cycle, np.roll(cycle, -shift)))


def _cycles(n: int, rng: np.random.Generator) -> list[IntArray]:
    cycles: list[IntArray] = []
    for _ in range(_CYCLES):
        cycle = _fresh_cycle(n, cycles, rng)
        if cycle is None:
            return _zigzag_cycles(n, rng)
        cycles.append(cycle)
    return cycles


def _fresh_cycle(n: int, cycles: list[IntArray], rng: np.random.Generator) -> IntArray | None:
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


def _keys(rows: IntArray, n: int) -> IntArray:
    """Number ordered pairs, (m, 2) to (m,)."""
    return rows[:, 0] * n + rows[:, 1]


def _zigzag_cycles(n: int, rng: np.random.Generator) -> list[IntArray]:
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
    return [label[cycle] for cycle in cycles[:_CYCLES]]
