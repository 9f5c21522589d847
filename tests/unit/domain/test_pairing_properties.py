"""What holds for every batch, whatever was answered: balance, budget, connection, and no question asked twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cjtasks.domain.pairing import History, Outcome, Pair, ceiling, first_iteration, next_wave, seed_for

timing_free = settings(deadline=None)  # A busy machine is no failure.
seeds = st.integers(0, 2**64 - 1)
answers = st.sampled_from(
    [[Outcome.A_WON, Outcome.B_WON], [Outcome.A_WON], [Outcome.NO_VERDICT], [Outcome.OPEN], list(Outcome)]
)


def rng(seed: int, step: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, step])


def history(n: int, asked: list[Pair], outcomes: list[Outcome], seed: int) -> History:
    """Let chance choose among `outcomes` for each pair."""
    return History(n, np.array(asked, np.int64).reshape(-1, 2), rng(seed, 99).choice(outcomes, len(asked)))


def is_connected(n: int, pairs: list[Pair]) -> bool:
    a, b = np.array(pairs).T
    graph = csr_array((np.ones(len(pairs)), (a, b)), shape=(n, n))
    return bool(connected_components(graph, directed=False)[0] == 1)


def largest_count(essays: list[int]) -> int:
    return max(Counter(essays).values(), default=0)


def assert_fair_wave(n: int, wave: list[Pair]) -> None:
    assert all(0 <= a < n and 0 <= b < n and a != b for a, b in wave)
    assert largest_count([a for a, _ in wave]) <= 1
    assert largest_count([b for _, b in wave]) <= 1


@timing_free
@given(n=st.integers(2, 60), seed=seeds)
def test_every_essay_stands_once_on_each_side_in_each_wave_of_the_first_iteration(n: int, seed: int) -> None:
    pairs = first_iteration(n, ceiling(n), rng(seed))
    assert len(pairs) == len(set(pairs)) == (4 * n if n > 5 else ceiling(n))
    for start in range(0, len(pairs), n):
        wave = pairs[start : start + n]
        assert len(wave) == n
        assert_fair_wave(n, wave)


@timing_free
@given(n=st.integers(2, 60), budget=st.integers(0, 300), seed=seeds)
def test_a_first_iteration_keeps_its_budget_its_balance_and_its_connection(n: int, budget: int, seed: int) -> None:
    pairs = first_iteration(n, budget, rng(seed))
    assert len(pairs) <= budget
    assert len(pairs) == len(set(pairs))
    balance = Counter(a for a, _ in pairs)
    balance.subtract(b for _, b in pairs)
    assert all(abs(difference) <= 1 for difference in balance.values())
    if budget >= n - 1:
        assert is_connected(n, pairs)


@settings(timing_free, max_examples=30)
@given(n=st.integers(2, 14), budget=st.integers(1, 40), outcomes=answers, seed=seeds)
def test_waves_reach_every_ordered_pair_once_and_then_stop(
    n: int, budget: int, outcomes: list[Outcome], seed: int
) -> None:
    asked = first_iteration(n, budget, rng(seed))
    for step in range(1, ceiling(n) + 2):
        wave = next_wave(history(n, asked, outcomes, seed), budget, rng(seed, step))
        if not wave:
            break
        assert len(wave) <= budget
        assert_fair_wave(n, wave)
        asked += wave
        assert len(asked) == len(set(asked))
    assert len(asked) == ceiling(n)


@settings(timing_free, max_examples=30)
@given(n=st.integers(6, 40), outcomes=answers, seed=seeds)
def test_whole_waves_show_every_essay_equally_often_on_both_sides(n: int, outcomes: list[Outcome], seed: int) -> None:
    asked = first_iteration(n, 4 * n, rng(seed))
    for step in range(min(3, n - 5)):
        wave = next_wave(history(n, asked, outcomes, seed), 4 * n, rng(seed, step))
        assert sorted(a for a, _ in wave) == sorted(b for _, b in wave) == list(range(n))
        asked += wave
    assert len(asked) == len(set(asked))


@settings(timing_free, max_examples=20)
@given(n=st.integers(0, 40), key=st.text(), iteration=st.integers(1, 9), seed=st.none() | st.integers())
def test_the_same_seed_gives_the_same_pairs(n: int, key: str, iteration: int, seed: int | None) -> None:
    def drawn() -> tuple[list[Pair], list[Pair]]:
        generator = np.random.default_rng(seed_for(key, iteration, seed))
        first = first_iteration(n, 1000, generator)
        return first, next_wave(history(n, first, list(Outcome), 0), 1000, generator)

    assert drawn() == drawn()
