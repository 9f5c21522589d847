"""Votes: which essays met, and how often each of the two was preferred.

A comparison of an essay with itself says nothing about differences and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked and answered, one entry a comparison; essays are indices from 0 to n - 1.

    Where nobody knows which essay stood first, take the winner as first and `first_won` as True throughout.
    Raises ValueError naming the field that does not fit.
    """

    first: IntArray  # (m,)
    second: IntArray  # (m,)
    first_won: BoolArray  # (m,)
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"n must not be negative, got {self.n}")
        for name, values in (("first", self.first), ("second", self.second), ("first_won", self.first_won)):
            if values.shape != (len(self.first),):
                raise ValueError(f"{name} must have the shape {(len(self.first),)}, got {values.shape}")
        for name, essays in (("first", self.first), ("second", self.second)):
            if essays.size and not (essays.min() >= 0 and essays.max() < self.n):
                raise ValueError(f"{name} must hold indices from 0 to {self.n - 1}")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of different essays among `n`, each once whatever its order, sorted by both."""

    low: IntArray  # (pairs,) the smaller index of each pair.
    high: IntArray  # (pairs,)
    n: int

    def lead(self, scores: FloatArray) -> FloatArray:
        """Return how far the first essay of each pair is ahead, (n,) to (pairs,)."""
        return scores[self.low] - scores[self.high]

    def over_essays(self, of_low: FloatArray, of_high: FloatArray) -> FloatArray:
        """Sum what each pair gives to its two essays, (pairs,) to (n,)."""
        total = np.bincount(self.low, of_low, self.n) + np.bincount(self.high, of_high, self.n)
        return np.asarray(total, np.float64)


@dataclass(frozen=True, slots=True)
class Votes:
    """How the votes of each pair are split; shares of a vote are possible."""

    pairs: Pairs
    low_wins: FloatArray  # (pairs,)
    high_wins: FloatArray  # (pairs,)

    @property
    def count(self) -> FloatArray:
        return self.low_wins + self.high_wins

    @property
    def wins(self) -> FloatArray:
        """Votes for each essay, (n,)."""
        return self.pairs.over_essays(self.low_wins, self.high_wins)


def count_votes(answers: Answers, *, repeats_count_once: bool) -> Votes:
    """Count the votes of every pair that was compared.

    `repeats_count_once` is for a language model, which mostly repeats itself: its answers to one question (the
    same two essays in the same order) are one vote together, split as they were. The other order is another
    question. People decide anew each time, and every answer counts.
    """
    differ = answers.first != answers.second
    questions = answers.first[differ] * answers.n + answers.second[differ]
    question, index, asked = np.unique(questions, return_inverse=True, return_counts=True)
    votes = asked.astype(np.float64)
    won = np.bincount(index, answers.first_won[differ], question.size).astype(np.float64)
    if repeats_count_once:
        won, votes = won / votes, np.ones_like(votes)
    first, second = np.divmod(question, max(answers.n, 1))
    ahead = first < second
    low_wins, high_wins = np.where(ahead, won, votes - won), np.where(ahead, votes - won, won)
    return _over_orders(np.minimum(first, second), np.maximum(first, second), (low_wins, high_wins), answers.n)


def _over_orders(low: IntArray, high: IntArray, wins: tuple[FloatArray, FloatArray], n: int) -> Votes:
    """Add up the votes of both orders of a pair."""
    pair, index = np.unique(low * n + high, return_inverse=True)
    low_wins, high_wins = (np.bincount(index, of_one, pair.size).astype(np.float64) for of_one in wins)
    return Votes(Pairs(*np.divmod(pair, max(n, 1)), n), low_wins, high_wins)
