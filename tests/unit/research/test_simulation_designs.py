from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cjtasks.domain import pairing, scoring
from cjtasks.domain.votes import Answers
from cjtasks.research.designs import DesignName, matching, ours, swiss
from cjtasks.research.judges import Temper
from cjtasks.research.measures import winners_and_losers
from cjtasks.research.simulation import Scenario, rounds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cjtasks.domain.pairing import Pair

EVERY_DESIGN = pytest.mark.parametrize("design", DesignName)


def session(design: DesignName, essays: int, per_essay: float, seed: int = 0) -> Answers:
    *_, answers = rounds(Scenario(essays, seed=seed), design, round(per_essay * essays / 2), 0)
    return answers


def asked(answers: Answers) -> list[Pair]:
    return list(zip(answers.first.tolist(), answers.second.tolist(), strict=True))


def perfectly_judged(truth: NDArray[Any], pairs: Iterable[Pair]) -> Answers:
    first, second = np.array(list(pairs), np.int64).reshape(-1, 2).T
    return Answers(first, second, truth[first] > truth[second], truth.size)


@EVERY_DESIGN
@pytest.mark.parametrize("essays", [2, 3, 5, 6, 7, 12, 31])
def test_no_essay_meets_itself_and_no_budget_is_exceeded(design: DesignName, essays: int) -> None:
    budget = 4 * essays + 1
    *_, answers = rounds(Scenario(essays), design, budget, 0)
    assert answers.first.size <= budget
    assert (answers.first != answers.second).all()


@pytest.mark.parametrize("design", [DesignName.OURS, DesignName.RANDOM])
@pytest.mark.parametrize("essays", [6, 9, 30])
def test_waves_show_every_essay_equally_often_on_both_sides(design: DesignName, essays: int) -> None:
    answers = session(design, essays, 10)
    assert (np.bincount(answers.first, minlength=essays) == 5).all()
    assert (np.bincount(answers.second, minlength=essays) == 5).all()


@pytest.mark.parametrize("design", [DesignName.SWISS, DesignName.MATCHING])
@pytest.mark.parametrize("seed", range(3))
def test_rounds_of_couples_use_every_essay_and_keep_the_sides_nearly_balanced(design: DesignName, seed: int) -> None:
    answers = session(design, 30, 16, seed)
    first, second = np.bincount(answers.first, minlength=30), np.bincount(answers.second, minlength=30)
    assert (first + second == 16).all()
    assert np.abs(first - second).max() <= 4


@pytest.mark.parametrize("design", [DesignName.SWISS, DesignName.MATCHING])
def test_with_an_odd_number_the_essay_with_the_most_comparisons_sits_out(design: DesignName) -> None:
    answers = session(design, 9, 8)
    counts = np.bincount(answers.first, minlength=9) + np.bincount(answers.second, minlength=9)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("design", [DesignName.OURS, DesignName.RANDOM])
def test_waves_ask_no_ordered_pair_twice_and_end_when_all_were_asked(design: DesignName) -> None:
    answers = session(design, 7, 1000)
    assert sorted(asked(answers)) == [(a, b) for a in range(7) for b in range(7) if a != b]


@pytest.mark.parametrize("design", [DesignName.SWISS, DesignName.MATCHING])
def test_couples_do_not_meet_again_while_there_are_others(design: DesignName) -> None:
    pairs = {frozenset(pair) for pair in asked(session(design, 30, 8))}
    assert len(pairs) == 120


def test_random_waves_do_not_look_at_the_answers() -> None:
    plain, coin_toss = (
        asked(list(rounds(Scenario(12, temper=temper), DesignName.RANDOM, 100, 0))[-1])
        for temper in (Temper(), Temper(lapse=1))
    )
    assert plain == coin_toss


def test_our_design_is_the_pairing_of_a_batch() -> None:
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    first = ours(perfectly_judged(np.zeros(9), []), 1000, rng)
    assert first == pairing.first_iteration(9, 1000, same)
    judged = perfectly_judged(np.linspace(-3, 3, 9), first)
    history = pairing.History(9, np.array(first), judged.first_won.astype(np.int64))
    assert ours(judged, 1000, rng) == pairing.next_wave(history, 1000, same)


def test_swiss_lets_the_best_meet_the_next_best_that_it_has_not_met() -> None:
    # Two rounds are possible: 0 meets 3 or 5. All others have met, and each better one has won.
    met = [pair for pair in combinations(range(6), 2) if pair not in {(0, 3), (0, 5), (1, 2), (3, 4), (4, 5)}]
    judged = perfectly_judged(np.arange(6, 0, -1), met)
    couples = {frozenset(pair) for pair in swiss(judged, 10, np.random.default_rng(0))}
    assert couples == {frozenset((0, 3)), frozenset((1, 2)), frozenset((4, 5))}


def test_the_ranking_that_swiss_goes_down_comes_from_who_won() -> None:
    # Essays that never met are paired by their scores: winners meet winners, losers meet losers.
    judged = perfectly_judged(np.array([0, 1, 0, 1, 0, 1, 0, 1]), [(0, 1), (2, 3), (4, 5), (6, 7)])
    assert {(a + b) % 2 for a, b in swiss(judged, 10, np.random.default_rng(0))} == {0}


@pytest.mark.parametrize("seed", range(10))
def test_a_matching_lets_close_essays_meet_nearly_as_close_as_can_be(seed: int) -> None:
    answers = session(DesignName.RANDOM, 8, 4, seed)
    scores = scoring.fit(*winners_and_losers(answers), 8).scores
    met = {frozenset(pair) for pair in asked(answers)}

    def apart(couples: Iterable[Pair]) -> float:
        return sum(float(abs(scores[a] - scores[b])) + 1000 * (frozenset((a, b)) in met) for a, b in couples)

    best = min(apart(couples) for couples in _perfect_matchings(list(range(8))))
    assert apart(matching(answers, 10, np.random.default_rng(seed))) <= best + 0.6


def _perfect_matchings(essays: list[int]) -> list[list[Pair]]:
    if not essays:
        return [[]]
    first, *rest = essays
    return [
        [(first, other), *couples]
        for other in rest
        for couples in _perfect_matchings([essay for essay in rest if essay != other])
    ]
