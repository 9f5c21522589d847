"""Simulated judges: how an answer comes about where the true scores are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cjtasks.domain.pairing import Pair
    from cjtasks.domain.votes import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class Temper:
    """What makes a judge's answers differ from the true order; all in logits but the two shares.

    The essay shown first wins where lead + side + quirk + noise * e > 0, with e from the standard logistic
    distribution. With noise 1 and nothing else this is the Bradley-Terry model; with noise 0 the judge is perfect.
    Raises ValueError naming the field that is out of range.
    """

    noise: float = 1.0
    side: float = 0.0  # In favour of whatever is shown first.
    quirk: float = 0.0  # Standard deviation of what the judge adds to each pair, the same both ways round.
    lapse: float = 0.0  # Share of answers that are a coin toss.
    repeat: float = 0.0  # Share of answers copied from the last one to the same two essays in the same order.

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, got {getattr(self, name)}")
        for name in ("noise", "quirk"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("lapse", "repeat"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")


PLAIN = Temper()
"""Answers by the Bradley-Terry model and nothing else."""

LANGUAGE_MODEL = Temper(side=0.4, quirk=0.8, lapse=0.03, repeat=0.9)
"""Prefers what is shown first, judges each pair in a way of its own, and mostly repeats itself."""


class Judge:
    """A judge with a temper, at work on essays with known true scores (n,) in logits."""

    def __init__(self, truth: FloatArray, temper: Temper, rng: np.random.Generator) -> None:
        self._temper, self._rng = temper, rng
        self._lead = truth[:, None] - truth + _quirks(truth.size, temper.quirk, rng)
        self._last: dict[Pair, bool] = {}

    def answers(self, pairs: list[Pair]) -> BoolArray:
        """Return for each pair (first, second) in turn whether the first is preferred, (pairs,)."""
        return np.array([self._answer(pair) for pair in pairs], dtype=np.bool_)

    def _answer(self, pair: Pair) -> bool:
        if pair not in self._last or self._rng.random() >= self._temper.repeat:
            self._last[pair] = self._judged(pair)
        return self._last[pair]

    def _judged(self, pair: Pair) -> bool:
        lapsed = self._rng.random() < self._temper.lapse
        chance = float(self._rng.logistic())
        if lapsed:
            return chance > 0
        return bool(self._lead[pair] + self._temper.side + self._temper.noise * chance > 0)


def _quirks(n: int, sd: float, rng: np.random.Generator) -> FloatArray:
    """Draw for each pair how far this judge moves it; what favours one essay is against the other."""
    upper = np.triu(rng.normal(0.0, sd, (n, n)), 1)
    return upper - upper.T
