from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import root
from scipy.special import expit

from cjtasks.domain import outcomes
from cjtasks.domain.scoring import FloatArray, IntArray, fit
from cjtasks.domain.side_effect import SideEffect, side_effect

Sides = tuple[IntArray, IntArray, NDArray[np.bool_]]


def balanced(rng: np.random.Generator, n: int, waves: int, eta: float) -> Sides:
    """Waves in which every essay is first once and second once; the true scores have sd 1.5."""
    truth = rng.normal(0, 1.5, n)
    cycles = [rng.permutation(n) for _ in range(waves)]
    firsts, seconds = np.concatenate(cycles), np.concatenate([np.roll(cycle, 1) for cycle in cycles])
    return firsts, seconds, rng.random(firsts.size) < expit(truth[firsts] - truth[seconds] + eta)


def winners_and_losers(sides: Sides) -> tuple[IntArray, IntArray]:
    firsts, seconds, first_won = sides
    return np.where(first_won, firsts, seconds), np.where(first_won, seconds, firsts)


def residual(unknown: FloatArray, sides: Sides) -> FloatArray:
    """The equations written down comparison by comparison; the mean of the scores takes the last essay's place."""
    scores, eta = unknown[:-1], unknown[-1]
    number, won, expected, information = np.zeros((4, scores.size))
    first_wins = 0.0
    for first, second, first_won in zip(*sides, strict=True):
        p = expit(scores[first] - scores[second] + eta)
        first_wins += first_won - p
        won[first if first_won else second] += 1
        for essay, chance in ((first, p), (second, 1 - p)):
            number[essay] += 1
            expected[essay] += chance
            information[essay] += p * (1 - p)
    missing = 0.3 + (number - 0.6) / number * won - expected
    gap = missing - missing.sum() / information.sum() * information
    gap[-1] = scores.mean()
    return np.append(gap, first_wins)


def inverse_information(fitted: SideEffect, sides: Sides) -> FloatArray:
    """The covariance of scores that add up to 0 and eta, from the information written down row by row."""
    firsts, seconds, _ = sides
    n = fitted.scores.size
    rows = np.zeros((firsts.size, n + 1))
    at = np.arange(firsts.size)
    rows[at, firsts], rows[at, seconds], rows[:, n] = 1, -1, 1
    p = expit(rows @ np.append(fitted.scores, fitted.eta))
    return np.asarray(np.linalg.pinv(rows.T @ ((p * (1 - p))[:, None] * rows)))


@pytest.mark.parametrize(("n", "waves", "seed"), [(6, 8, 1), (25, 9, 2)])
def test_the_effect_solves_the_equations_as_an_independent_solver_does(n: int, waves: int, seed: int) -> None:
    firsts, seconds, first_won = balanced(np.random.default_rng(seed), n, waves, 0.5)
    unequal: Sides = (firsts[3:], seconds[3:], first_won[3:])
    fitted = side_effect(*unequal, n)
    independent = root(residual, np.zeros(n + 1), args=(unequal,), tol=1e-13).x
    assert fitted.scores == pytest.approx(independent[:-1], abs=1e-8)
    assert fitted.eta == pytest.approx(independent[-1], abs=1e-8)
    assert fitted.standard_error == pytest.approx(math.sqrt(inverse_information(fitted, unequal)[-1, -1]))
    assert fitted.z == pytest.approx(fitted.eta / fitted.standard_error)


def test_conjugate_gradients_for_many_essays_find_what_cholesky_does_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = balanced(np.random.default_rng(8), 60, 6, 0.5)
    exact = side_effect(*sides, 60)
    monkeypatch.setattr(outcomes, "_DENSE_STEP", 0)
    iterated = side_effect(*sides, 60)
    assert iterated.eta == pytest.approx(exact.eta, abs=1e-9)
    assert iterated.standard_error == pytest.approx(exact.standard_error, rel=1e-7)
    assert iterated.scores == pytest.approx(exact.scores, abs=1e-8)


def test_without_an_effect_the_scores_are_those_of_the_fit_that_knows_no_sides() -> None:
    # Each comparison once as it was and once with the sides exchanged: neither side can have an advantage.
    firsts, seconds, first_won = balanced(np.random.default_rng(3), 40, 8, 0.7)
    both: Sides = (
        np.concatenate((firsts, seconds)),
        np.concatenate((seconds, firsts)),
        np.concatenate((first_won, ~first_won)),
    )
    fitted = side_effect(*both, 40)
    assert fitted.eta == pytest.approx(0, abs=1e-9)
    assert fitted.z == pytest.approx(0, abs=1e-8)
    assert fitted.scores == pytest.approx(fit(*winners_and_losers(both), 40).scores, abs=1e-8)


@pytest.mark.parametrize("eta", [-0.4, 0.0, 1.0])
def test_a_known_effect_is_recovered_within_its_standard_error(eta: float) -> None:
    rng = np.random.default_rng(4)
    fits = [side_effect(*balanced(rng, 40, 20, eta), 40) for _ in range(25)]
    errors = np.array([(one.eta - eta) / one.standard_error for one in fits])
    # The adjustment of wins stretches the whole scale by a few hundredths, eta with it.
    assert np.mean([one.eta for one in fits]) == pytest.approx(eta, abs=0.08 + 0.1 * abs(eta))
    assert np.mean(np.abs(errors) < 1.96) >= 0.8
    assert 0.6 < np.std(errors) < 1.4


def test_in_balanced_waves_the_ranking_is_the_same_with_and_without_the_effect() -> None:
    # Essays far apart enough not to change places by the noise of one comparison more or less on a side.
    rng = np.random.default_rng(5)
    truth = np.linspace(-3, 3, 12)
    cycles = [rng.permutation(12) for _ in range(200)]
    firsts, seconds = np.concatenate(cycles), np.concatenate([np.roll(cycle, 1) for cycle in cycles])
    first_won = rng.random(firsts.size) < expit(truth[firsts] - truth[seconds] + 0.8)
    sides: Sides = (firsts, seconds, first_won)
    freed, plain = side_effect(*sides, 12), fit(*winners_and_losers(sides), 12)
    assert freed.z > 5
    assert np.argsort(freed.scores).tolist() == np.argsort(plain.scores).tolist()


def test_an_essay_without_comparisons_has_no_score_and_changes_nothing() -> None:
    firsts, seconds, first_won = balanced(np.random.default_rng(6), 10, 8, 0.3)
    alone = side_effect(firsts, seconds, first_won, 10)
    spread = side_effect(firsts + 1, seconds + 1, first_won, 12)
    assert np.isnan(spread.scores[[0, 11]]).all()
    assert spread.scores[1:11] == pytest.approx(alone.scores, abs=1e-12)
    assert spread.eta == pytest.approx(alone.eta, abs=1e-12)


@pytest.mark.parametrize(
    ("firsts", "seconds", "first_won"),
    [
        pytest.param([], [], [], id="no comparisons"),
        pytest.param([0, 1, 2], [1, 2, 0], [True] * 3, id="the first side always wins"),
        pytest.param([0, 0, 0, 0], [1, 1, 1, 1], [True, True, False, True], id="each essay is always on one side"),
        pytest.param([0, 2, 2], [1, 1, 3], [True, False, True], id="a tree of single comparisons"),
        pytest.param([2, 0, 0], [1, 1, 2], [False, True, False], id="an essay drifts away"),
        pytest.param([4, 0, 5, 5, 5], [5, 1, 2, 4, 0], [True, False, True, True, True], id="two groups drift apart"),
    ],
)
def test_where_sides_cannot_be_told_from_essays_there_is_no_effect(
    firsts: list[int], seconds: list[int], first_won: list[bool]
) -> None:
    fitted = side_effect(np.array(firsts, np.int64), np.array(seconds, np.int64), np.array(first_won, np.bool_), 6)
    assert math.isnan(fitted.eta)
    assert math.isnan(fitted.standard_error)
    assert math.isnan(fitted.z)


@pytest.mark.parametrize(
    ("firsts", "seconds", "first_won", "named"),
    [
        ([0], [1, 0], [True], "firsts and seconds"),
        ([0], [2], [True], "firsts and seconds"),
        ([-1], [1], [True], "firsts and seconds"),
        ([0], [1], [True, False], "first_won"),
    ],
)
def test_sides_that_do_not_fit_are_refused(
    firsts: list[int], seconds: list[int], first_won: list[bool], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        side_effect(np.array(firsts), np.array(seconds), np.array(first_won), 2)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_pair_asked_both_ways_round_with_neither_side_preferred_gives_no_effect(n: int) -> None:
    # What the sides tell about the scores then vanishes but for rounding, which must not be taken for a direction.
    firsts, seconds = np.array(list(permutations(range(n), 2))).T
    half = np.arange(firsts.size) % 2 == 0
    for seed in range(300):
        first_won = np.random.default_rng(seed).permutation(half)
        assert side_effect(firsts, seconds, first_won, n).eta == pytest.approx(0, abs=1e-9)
