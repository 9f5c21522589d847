from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import kendalltau

from cjtasks.domain import posterior
from cjtasks.domain.pairing import History, Outcome, Pair, ceiling, first_iteration, next_wave, seed_for
from cjtasks.domain.votes import Answers, FloatArray, count_votes


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def every_pair(n: int) -> list[Pair]:
    return list(permutations(range(n), 2))


def history(n: int, asked: list[Pair], outcomes: list[Outcome] | None = None) -> History:
    """Let the essay with the lower number win where nothing else is said."""
    outcomes = outcomes or [Outcome.A_WON if a < b else Outcome.B_WON for a, b in asked]
    return History(n, np.array(asked, np.int64).reshape(-1, 2), np.array(outcomes, np.int64))


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


def test_a_small_budget_cuts_off_the_pairs_of_a_wave_that_tell_least() -> None:
    first = history(20, first_iteration(20, 80, rng()))
    whole = next_wave(first, 100, rng(3))
    assert len(whole) == 20
    assert next_wave(first, 7, rng(3)) == whole[:7]


@pytest.mark.parametrize(("n", "budget"), [(0, 10), (1, 10), (2, 0), (30, 0), (30, -5)])
def test_without_essays_or_budget_there_are_no_pairs(n: int, budget: int) -> None:
    assert first_iteration(n, budget, rng()) == []
    assert next_wave(history(n, []), budget, rng()) == []


@pytest.mark.parametrize("winner_first", [True, False])
def test_a_wave_brings_essays_together_whose_scores_are_close(winner_first: bool) -> None:
    n = 30
    first = [(a, b) if (a < b) is winner_first else (b, a) for a, b in first_iteration(n, 1000, rng(1))]
    wave = next_wave(history(n, first), 1000, rng(2))
    assert np.mean([abs(a - b) for a, b in wave]) < 0.6 * np.mean([abs(a - b) for a, b in first])


@pytest.mark.parametrize(("outcome", "tells_most"), [(Outcome.NO_VERDICT, True), (Outcome.OPEN, False)])
def test_an_essay_of_which_nothing_is_known_comes_first_unless_its_answers_are_on_their_way(
    outcome: Outcome, tells_most: bool
) -> None:
    n, unknown = 12, 7
    first = first_iteration(n, 1000, rng(1))
    outcomes = [outcome if unknown in pair else Outcome.A_WON for pair in first]
    assert (unknown in next_wave(history(n, first, outcomes), 1, rng())[0]) is tells_most


def test_a_pair_without_a_verdict_is_not_asked_again() -> None:
    left = {(0, 1), (0, 2), (3, 2)}
    asked = sorted(set(every_pair(5)) - left)
    wave = next_wave(history(5, asked, [Outcome.NO_VERDICT] * len(asked)), 100, rng())
    assert sorted(wave) == [(0, 1), (3, 2)]


def answered(so_far: History, wave: list[Pair], truth: FloatArray, judge: np.random.Generator) -> History:
    pairs = np.concatenate((so_far.pairs, wave))
    won = judge.random(len(wave)) < expit(truth[pairs[-len(wave) :]] @ (1, -1))
    return History(so_far.n, pairs, np.concatenate((so_far.outcomes, won)))


def agreement(so_far: History, truth: FloatArray) -> float:
    """Return Kendall's tau between the scores and the truth."""
    first, second = so_far.pairs.T
    answers = Answers(first, second, so_far.outcomes == Outcome.A_WON, so_far.n)
    votes = count_votes(answers, repeats_count_once=False)
    return float(kendalltau(posterior.at(votes, 2.0).mean, truth).statistic)


def gained_by_choosing(seed: int, n: int = 30) -> float:
    """Compare 16 comparisons an essay, half of them chosen, with as many along random cycles."""
    truth, judge, chance = rng(seed).normal(0, 2.5, n), rng(100 + seed), rng(200 + seed)
    half = answered(history(n, []), first_iteration(n, 4 * n, chance), truth, judge)
    random, chosen = answered(half, first_iteration(n, 4 * n, chance), truth, judge), half
    for _ in range(4):
        chosen = answered(chosen, next_wave(chosen, n, chance), truth, judge)
    return agreement(chosen, truth) - agreement(random, truth)


def test_chosen_pairs_bring_the_scores_nearer_to_the_truth_than_random_ones() -> None:
    assert np.mean([gained_by_choosing(seed) for seed in range(40)]) > 0.01


@pytest.mark.parametrize("pair", [(0, 4), (-1, 2)])
def test_an_asked_pair_of_unknown_essays_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="pairs"):
        history(4, [pair])


def test_pairs_and_outcomes_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        history(4, [(0, 1), (2, 3)], [Outcome.OPEN])


def test_pairs_are_plain_integers() -> None:
    pairs = first_iteration(10, 100, rng()) + next_wave(history(10, []), 100, rng())
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
