"""`python -m bench.pairing_speed`: how long it takes to choose one more wave, beside a plain random wave.

A wave is timed from the answers of the first iteration to the list of pairs, the fits included: the best of a few
runs, because everything else that a machine does only adds to it. Set OMP_NUM_THREADS=1 to measure one core.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import typer
from scipy.special import expit

from cjtasks.domain.pairing import History, first_iteration, next_wave
from cjtasks.domain.waves import best_wave

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = {30: 5, 100: 15, 300: 100, 1_000: 1_500}
"""Milliseconds that a wave of so many essays may take."""

SPREAD = 1.5  # Logits: the standard deviation of the true scores.
RUNS = 7


def judged(n: int, rng: np.random.Generator) -> History:
    """Return a batch whose first iteration was judged by a judge who follows the model."""
    truth = rng.normal(0, SPREAD, n)
    pairs = np.array(first_iteration(n, 4 * n, rng))
    return History(n, pairs, (rng.random(4 * n) < expit(truth[pairs] @ (1, -1))).astype(np.int64))


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return 1000 * min(times)


def random_wave(history: History, rng: np.random.Generator) -> object:
    gain = rng.uniform(0.5, 1, (history.n, history.n))
    return best_wave(gain + gain.T, np.zeros(history.n), history.pairs, rng)


def row(n: int, limit: float) -> str:
    rng = np.random.default_rng(n)
    history = judged(n, rng)
    random = milliseconds(lambda: random_wave(history, rng))
    chosen = milliseconds(lambda: next_wave(history, n, rng))
    return f"{n:>8} {random:>11.1f} ms {chosen:>11.1f} ms {limit:>7} ms"


def main() -> None:
    typer.echo(f"{'essays':>8} {'random wave':>14} {'chosen wave':>14} {'limit':>10}")
    for n, limit in LIMITS.items():
        typer.echo(row(n, limit))


if __name__ == "__main__":
    main()
