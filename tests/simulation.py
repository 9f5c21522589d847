"""Simulated batches of comparative judgement, whose true scores are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from cjtasks.domain.votes import Answers

if TYPE_CHECKING:
    from cjtasks.domain.votes import FloatArray, IntArray


def random_pairs(n: int, per_essay: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return who meets whom along random circles, so that every essay is first and second equally often."""
    circles = [rng.permutation(n) for _ in range(per_essay // 2)]
    return np.concatenate(circles), np.concatenate([np.roll(circle, 1) for circle in circles])


def judged(truth: FloatArray, pairs: tuple[IntArray, IntArray], rng: np.random.Generator) -> Answers:
    """Let a judge who follows the Bradley-Terry model compare the pairs."""
    first, second = pairs
    return Answers(first, second, rng.random(first.size) < expit(truth[first] - truth[second]), truth.size)


def simulated_batch(n: int, per_essay: int, spread: float, rng: np.random.Generator) -> tuple[FloatArray, Answers]:
    """Return true scores with that standard deviation, and the answers of a judge who was asked random pairs."""
    truth = rng.normal(0, spread, n) if spread else np.zeros(n)
    return truth, judged(truth, random_pairs(n, per_essay, rng), rng)
