"""Waves for any gains at all: the rules of a wave must not hang on what was judged."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from cjtasks.domain.waves import best_wave

if TYPE_CHECKING:
    from cjtasks.domain.votes import FloatArray, IntArray

timing_free = settings(deadline=None)  # A busy machine is no failure.
seeds = st.integers(0, 2**64 - 1)

NOTHING = np.empty((0, 2), np.int64)


def rng(seed: int = 0, step: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, step])


def every_pair(n: int) -> IntArray:
    return np.array(list(permutations(range(n), 2)))


def random_gain(n: int, generator: np.random.Generator) -> FloatArray:
    gain = generator.random((n, n)) + 0.01
    return np.asarray(gain + gain.T, np.float64)


def gain_by_distance(scores: FloatArray) -> FloatArray:
    """Neighbours tell most, as they do where all essays were compared equally often."""
    return np.asarray(1 / (1 + np.abs(scores[:, None] - scores)), np.float64)


def rows(wave: IntArray) -> list[tuple[int, int]]:
    return [(a, b) for a, b in wave.tolist()]


def assert_whole_wave(n: int, wave: IntArray) -> None:
    assert sorted(wave[:, 0]) == sorted(wave[:, 1]) == list(range(n))
    assert (wave[:, 0] != wave[:, 1]).all()


@timing_free
@given(n=st.integers(2, 25), seed=seeds)
def test_every_essay_stands_once_on_each_side_in_every_wave_until_no_pair_is_left(n: int, seed: int) -> None:
    asked = NOTHING
    for step in range(n - 1):
        wave = best_wave(random_gain(n, rng(seed, step)), np.zeros(n), asked, rng(seed, n + step))
        assert_whole_wave(n, wave)
        asked = np.concatenate((asked, wave))
        assert len(set(rows(asked))) == len(asked)
    assert best_wave(random_gain(n, rng(seed)), np.zeros(n), asked, rng(seed)).size == 0


@timing_free
@given(n=st.integers(2, 12), asked_share=st.floats(0, 1), seed=seeds)
def test_after_any_history_a_wave_has_as_many_pairs_as_can_stand_in_one(n: int, asked_share: float, seed: int) -> None:
    chance = rng(seed)
    pairs = every_pair(n)
    asked = pairs[chance.random(len(pairs)) < asked_share]
    allowed = 1 - np.eye(n)
    allowed[asked[:, 0], asked[:, 1]] = 0

    wave = best_wave(random_gain(n, chance), np.zeros(n), asked, chance)

    most = allowed[linear_sum_assignment(allowed, maximize=True)].sum()
    assert len(wave) == most
    assert all(allowed[a, b] for a, b in wave)
    assert len(set(wave[:, 0])) == len(set(wave[:, 1])) == len(wave)


@timing_free
@given(n=st.integers(3, 40), seed=seeds)
def test_a_wave_of_new_pairs_asks_none_both_ways_round(n: int, seed: int) -> None:
    wave = best_wave(random_gain(n, rng(seed)), np.zeros(n), NOTHING, rng(seed, 1))
    assert len({frozenset(pair) for pair in rows(wave)}) == n


@timing_free
@given(n=st.integers(6, 40), seed=seeds)
def test_a_wave_gains_nearly_as_much_as_one_that_may_ask_pairs_both_ways_round(n: int, seed: int) -> None:
    scores = rng(seed).normal(0, 2, n)
    gain = gain_by_distance(scores)
    wave = best_wave(gain, scores, NOTHING, rng(seed, 1))
    np.fill_diagonal(gain, 0)
    most = gain[linear_sum_assignment(gain, maximize=True)].sum()
    assert gain[wave[:, 0], wave[:, 1]].sum() > 0.6 * most


def test_two_essays_meet_on_both_sides_in_one_wave() -> None:
    assert sorted(rows(best_wave(np.ones((2, 2)), np.zeros(2), NOTHING, rng()))) == [(0, 1), (1, 0)]


def test_the_most_informative_pair_comes_first() -> None:
    gain = random_gain(20, rng(3))
    wave = best_wave(gain, np.zeros(20), NOTHING, rng())
    assert (np.diff(gain[wave[:, 0], wave[:, 1]]) <= 0).all()


@pytest.mark.parametrize(("new_gain", "turned"), [(0.76, False), (0.74, True)])
def test_a_turned_pair_comes_again_only_where_new_ones_tell_much_less(new_gain: float, turned: bool) -> None:
    # Essays 0 to 2 and 3 to 5 have met within their groups, where all gains are 1.
    asked = np.array([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)])
    group = np.arange(6) // 3
    gain = np.where(group[:, None] == group, 1.0, new_gain)
    wave = best_wave(gain, np.zeros(6), asked, rng())
    assert [bool(group[a] == group[b]) for a, b in wave] == [turned] * 6


def test_chance_decides_between_equal_gains() -> None:
    waves = {tuple(rows(best_wave(np.ones((8, 8)), np.zeros(8), NOTHING, rng(seed)))) for seed in range(10)}
    assert len(waves) == 10


def test_the_same_seed_gives_the_same_wave() -> None:
    scores = rng(5).normal(0, 1, 320)
    gain = gain_by_distance(scores)
    first, second, other = (best_wave(gain, scores, NOTHING, rng(seed)) for seed in (1, 1, 2))
    assert rows(first) == rows(second) != rows(other)


def test_many_essays_meet_whole_wave_by_whole_wave_near_their_score() -> None:
    n = 701
    scores = rng(1).normal(0, 2, n)
    place = scores.argsort().argsort()
    gain, asked = gain_by_distance(scores), NOTHING
    for step in range(3):
        wave = best_wave(gain, scores, asked, rng(2, step))
        assert_whole_wave(n, wave)
        assert np.abs(place[wave[:, 0]] - place[wave[:, 1]]).max() < 200
        asked = np.concatenate((asked, wave))
    assert len(set(rows(asked))) == 3 * n


def test_the_blocks_of_many_essays_are_cut_anew_in_each_wave() -> None:
    n = 400
    scores = np.arange(n, dtype=np.float64)
    cuts = [uncrossed(best_wave(np.ones((n, n)), scores, NOTHING, rng(seed))) for seed in range(4)]
    assert all(cuts)
    assert not set.intersection(*cuts)


def uncrossed(wave: IntArray) -> set[int]:
    """Return the places that no pair lies on both sides of."""
    low, high = wave.min(axis=1), wave.max(axis=1)
    return {place for place in range(1, len(wave)) if not ((low < place) & (high >= place)).any()}


def test_many_essays_still_get_a_whole_wave_where_their_neighbours_are_used_up() -> None:
    # All pairs of the lower half were asked, so that the lowest block has none left.
    n = 310
    wave = best_wave(np.ones((n, n)), np.arange(n, dtype=np.float64), every_pair(155), rng())
    assert_whole_wave(n, wave)
    assert not {(a, b) for a, b in rows(wave) if a < 155 and b < 155}
