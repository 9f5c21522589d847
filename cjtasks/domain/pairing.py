"""Which essays meet: random cycles first, then in each wave the pairs whose answers tell most.

A wave shows every essay once as Essay A and once as Essay B. So after any number of whole waves each essay was
shown equally often on both sides, and within a wave, cut anywhere, at most one time more on one side. An ordered
pair is asked at most once, whatever became of it: one that failed is tried again in its own orientation.

Essays are indices 0..n-1; a pair is (a, b), where a is shown as Essay A. All chance comes from the generator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from cjtasks.domain import cycles, information, waves
from cjtasks.domain.votes import Answers, count_votes

if TYPE_CHECKING:
    from cjtasks.domain.votes import IntArray, Votes

Pair = tuple[int, int]

_EVERY_PAIR_UP_TO = 5  # So few essays can all meet all others on both sides at once.


class Outcome(IntEnum):
    """What became of a pair that was asked."""

    B_WON = 0
    A_WON = 1
    OPEN = 2  # It is still to be answered.
    NO_VERDICT = 3  # It failed, or its answer came too late to count.


@dataclass(frozen=True, slots=True)
class History:
    """Every ordered pair that a batch of `n` essays has asked so far, and what became of each."""

    n: int
    pairs: IntArray  # (m, 2)
    outcomes: IntArray  # (m,) of Outcome

    def __post_init__(self) -> None:
        if self.pairs.shape != (self.outcomes.size, 2):
            raise ValueError(f"pairs must be of shape ({self.outcomes.size}, 2), got {self.pairs.shape}")
        if self.pairs.size and not (self.pairs.min() >= 0 and self.pairs.max() < self.n):
            raise ValueError(f"pairs must hold essays from 0 to {self.n - 1}")


def first_iteration(n: int, budget: int, rng: np.random.Generator) -> list[Pair]:
    """Return the pairs to ask first, at most `budget`; any n - 1 or more of them join all essays.

    Five essays or fewer: every ordered pair once. More: four Hamiltonian cycles, 8 comparisons an essay. The
    pairs stand wave by wave, the first n along one cycle; a small budget cuts the list off.
    """
    if n <= 1 or budget <= 0:
        return []
    whole = cycles.every_shift(n, rng) if n <= _EVERY_PAIR_UP_TO else cycles.four_cycles(n, rng)
    return _pairs(np.concatenate(list(whole)))[:budget]


def next_wave(history: History, budget: int, rng: np.random.Generator) -> list[Pair]:
    """Return one more wave of ordered pairs that were not asked, at most `budget`; [] when there is none left.

    Each essay stands at most once on each side, and exactly once while enough pairs are left. The most
    informative pairs come first. The same history and generator give the same wave, up to how the linear algebra
    of a machine rounds. Takes time of order n^3 and memory of order n^2.
    """
    if budget <= 0 or len(history.pairs) >= ceiling(history.n):
        return []
    judged = _votes(history, Outcome.A_WON, Outcome.B_WON)
    sent = _votes(history, Outcome.A_WON, Outcome.B_WON, Outcome.OPEN)
    belief = information.believe(judged, sent)
    return _pairs(waves.best_wave(information.gain(belief), belief.mode, history.pairs, rng))[:budget]


def ceiling(n: int) -> int:
    """Return how many ordered pairs `n` essays have: each may be asked once."""
    return n * (n - 1) if n > 1 else 0


def seed_for(batch_key: str, iteration: int, seed: int | None) -> int:
    """Return a seed (0 to 2^63 - 1) that depends on these three alone, on every machine; no seed means 0."""
    text = f"{seed or 0}:{iteration}:{batch_key}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _votes(history: History, *outcomes: Outcome) -> Votes:
    """Count the pairs of some outcomes; as none was asked twice there are no repeats of a question."""
    rows = np.isin(history.outcomes, outcomes)
    first, second = history.pairs[rows].T
    answers = Answers(first, second, history.outcomes[rows] == Outcome.A_WON, history.n)
    return count_votes(answers, repeats_count_once=False)


def _pairs(rows: IntArray) -> list[Pair]:
    return [(a, b) for a, b in rows.tolist()]
