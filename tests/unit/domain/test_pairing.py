from __future__ import annotations

import numpy as np
import pytest

from cjtasks.domain.pairing import Pair, ceiling, first_iteration, next_wave, seed_for


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def every_pair(n: int) -> list[Pair]:
    return [(a, b) for a in range(n) for b in range(n) if a != b]


def unordered(pairs: list[Pair]) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs}


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_up_to_five_essays_meet_every_other_on_both_sides(n: int) -> None:
    assert sorted(first_iteration(n, 1000, rng())) == every_pair(n)


@pytest.mark.parametrize("n", [6, 7, 8, 9, 10, 11, 12, 17, 30, 100, 251])
def test_more_essays_begin_with_four_cycles(n: int) -> None:
    pairs = first_iteration(n, 10_000, rng(n))
    assert len(pairs) == len(set(pairs)) == 4 * n
    for start in range(0, 4 * n, n):
        cycle = pairs[start : start + n]
        assert all(left[1] == right[0] for left, right in zip(cycle, cycle[1:] + cycle[:1], strict=True))
        assert len({a for a, _ in cycle}) == n


@pytest.mark.parametrize("n", [9, 10, 12, 15, 25, 60])
@pytest.mark.parametrize("seed", range(5))
def test_from_nine_essays_on_the_four_cycles_repeat_no_pair(n: int, seed: int) -> None:
    assert len(unordered(first_iteration(n, 10_000, rng(seed)))) == 4 * n


def test_the_four_cycles_of_many_essays_have_nothing_in_common() -> None:
    # Cycles by a regular construction would bring the same essays close to each other in each of the four.
    n = 100
    pairs = first_iteration(n, 10_000, rng(4))
    orders = [[a for a, _ in pairs[start : start + n]] for start in range(0, 4 * n, n)]
    near = [unordered(list(zip(order, order[2:], strict=False))) for order in orders]
    assert max(len(near[i] & near[j]) for i in range(4) for j in range(i)) < 15


@pytest.mark.parametrize("n", [6, 7, 8])
def test_below_nine_essays_pairs_repeat_only_turned_round(n: int) -> None:
    half = (n - 1) // 2
    assert len(unordered(first_iteration(n, 1000, rng()))) == half * n


def test_a_small_budget_cuts_the_same_list_off() -> None:
    whole = first_iteration(20, 1000, rng(3))
    for budget in (1, 19, 20, 47, 80):
        assert first_iteration(20, budget, rng(3)) == whole[:budget]


@pytest.mark.parametrize(("n", "budget"), [(0, 10), (1, 10), (2, 0), (30, 0), (30, -5)])
def test_without_essays_or_budget_there_are_no_pairs(n: int, budget: int) -> None:
    assert first_iteration(n, budget, rng()) == []
    assert next_wave(n, set(), budget, rng()) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_wave_asks_nothing_again_while_new_pairs_fit(seed: int) -> None:
    asked = first_iteration(30, 1000, rng(seed))
    for wave_number in range(5):
        wave = next_wave(30, asked, 1000, rng(100 + wave_number))
        assert len(wave) == 30
        asked += wave
        assert len(unordered(asked)) == len(asked)


def test_pairs_turned_round_fill_the_places_where_nothing_new_fits() -> None:
    # Essays 0 to 2 and 3 to 5 have met within their groups one way round: the other group comes first.
    asked = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    first = next_wave(6, asked, 100, rng())
    assert all((a < 3) != (b < 3) for a, b in first)
    # When only turned pairs are left they are asked, and nothing else is.
    left = [(b, a) for a, b in asked]
    assert sorted(next_wave(6, set(every_pair(6)) - set(left), 100, rng())) == sorted(left)


def test_a_budget_smaller_than_the_wave_keeps_the_new_pairs() -> None:
    # All four essays have met but 0 and 1, and the only whole wave is 0, 1, 2, 3 in a circle.
    asked = {(2, 1), (3, 2), (0, 3), (0, 2), (1, 3)}
    for seed in range(20):
        assert sorted(next_wave(4, asked, 100, rng(seed))) == [(0, 1), (1, 2), (2, 3), (3, 0)]
        assert next_wave(4, asked, 1, rng(seed)) == [(0, 1)]


def test_a_wave_without_complete_assignment_leaves_the_forbidden_pairs_out() -> None:
    left = {(0, 1), (0, 2), (3, 2)}
    wave = next_wave(5, set(every_pair(5)) - left, 100, rng())
    assert sorted(wave) == [(0, 1), (3, 2)]


def test_two_essays_meet_on_both_sides_in_one_wave() -> None:
    assert sorted(next_wave(2, [], 10, rng())) == [(0, 1), (1, 0)]


def test_large_batches_get_whole_waves_block_by_block() -> None:
    n = 701
    asked = first_iteration(n, 10_000, rng(1))
    wave = next_wave(n, asked, 10_000, rng(2))
    assert sorted(a for a, _ in wave) == sorted(b for _, b in wave) == list(range(n))
    assert not set(wave) & set(asked)
    assert len(unordered(asked + wave)) == 5 * n


def test_large_batches_find_the_last_pairs_wherever_they_are() -> None:
    n = 310
    left = {(0, 309), (309, 0), (5, 77), (5, 78)}
    asked = set(every_pair(n)) - left
    last: set[Pair] = set()
    while wave := next_wave(n, asked | last, 1000, rng(len(last))):
        assert len({a for a, _ in wave}) == len({b for _, b in wave}) == len(wave)
        last.update(wave)
    assert last == left


@pytest.mark.parametrize("pair", [(0, 4), (-1, 2)])
def test_an_asked_pair_of_unknown_essays_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="asked"):
        next_wave(4, [pair], 10, rng())


def test_pairs_are_plain_integers() -> None:
    pairs = first_iteration(10, 100, rng()) + next_wave(10, [], 100, rng())
    assert {type(essay) for pair in pairs for essay in pair} == {int}


@pytest.mark.parametrize(("n", "pairs"), [(0, 0), (1, 0), (2, 2), (3, 6), (30, 870)])
def test_the_ceiling_is_every_ordered_pair_once(n: int, pairs: int) -> None:
    assert ceiling(n) == pairs


def test_a_seed_depends_on_batch_iteration_and_seed_alone() -> None:
    assert seed_for("batch", 1, 7) == 8014703777598938026
    others = {seed_for("batch", 2, 7), seed_for("batch", 1, 8), seed_for("other", 1, 7), seed_for("1:batch", 1, 7)}
    assert len(others | {seed_for("batch", 1, 7)}) == 5


def test_no_seed_means_zero() -> None:
    assert seed_for("batch", 1, None) == seed_for("batch", 1, 0)
