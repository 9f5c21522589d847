from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from cjtasks.domain.scoring import FloatArray, IntArray, fit, judge_fit


def session(n: int, m: int, judges: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, n)
    first = rng.integers(n, size=m)
    second = (first + rng.integers(1, n, size=m)) % n
    first_wins = rng.random(m) < expit(truth[first] - truth[second])
    judge = rng.integers(judges, size=m)
    return np.where(first_wins, first, second), np.where(first_wins, second, first), judge


def test_a_judges_fit_is_the_sum_over_its_own_decisions() -> None:
    winners, losers, judges = session(12, 90, 4, 1)
    scores = fit(winners, losers, 12).scores
    fitted = judge_fit(winners, losers, judges, scores)
    for judge in range(4):
        p = np.array(
            [expit(scores[w] - scores[lo]) for w, lo, j in zip(winners, losers, judges, strict=True) if j == judge]
        )
        residual, expected = 1 - p, p * (1 - p)
        assert fitted.infit[judge] == pytest.approx((residual**2).sum() / expected.sum())
        assert fitted.outfit[judge] == pytest.approx((residual**2 / expected).mean())
        assert fitted.comparisons[judge] == p.size


def test_one_judge_of_all_has_the_misfit_of_all_essays_together() -> None:
    winners, losers, _ = session(10, 80, 1, 2)
    essays = fit(winners, losers, 10)
    fitted = judge_fit(winners, losers, np.zeros(80, np.int64), essays.scores)
    information = essays.standard_errors**-2
    assert fitted.infit == pytest.approx([(essays.infit * information).sum() / information.sum()])
    assert fitted.outfit == pytest.approx([(essays.outfit * essays.comparisons).sum() / 160])


def test_a_judge_who_chooses_at_random_stands_out_among_those_who_follow_the_scores() -> None:
    winners, losers, judges = session(40, 2000, 5, 3)
    coin = np.random.default_rng(0).random(2000) < 0.5
    wrong = (judges == 2) & coin
    winners, losers = np.where(wrong, losers, winners), np.where(wrong, winners, losers)
    fitted = judge_fit(winners, losers, judges, fit(winners, losers, 40).scores)
    assert int(np.argmax(fitted.infit)) == 2
    assert int(np.argmax(fitted.outfit)) == 2
    assert fitted.infit[2] > 1.3


def test_a_judge_without_decisions_has_no_fit() -> None:
    fitted = judge_fit(np.array([0]), np.array([1]), np.array([2]), np.array([0.5, -0.5]))
    assert fitted.comparisons.tolist() == [0, 0, 1]
    assert np.isnan(fitted.infit[:2]).all()
    assert np.isnan(fitted.outfit[:2]).all()
    assert fitted.outfit[2] == pytest.approx(math.exp(-1))


def test_without_decisions_there_are_no_judges() -> None:
    nobody = np.array([], np.int64)
    assert judge_fit(nobody, nobody, nobody, np.zeros(3)).infit.shape == (0,)


@pytest.mark.parametrize(
    ("winners", "losers", "judges", "named"),
    [
        ([0], [1], [0, 1], "judges"),
        ([0], [1], [-1], "judges"),
        ([0], [2], [0], "winners and losers"),
        ([0, 1], [1], [0, 0], "winners and losers"),
    ],
)
def test_decisions_that_do_not_fit_are_refused(
    winners: list[int], losers: list[int], judges: list[int], named: str
) -> None:
    scores: FloatArray = np.zeros(2)
    with pytest.raises(ValueError, match=named):
        judge_fit(np.array(winners), np.array(losers), np.array(judges), scores)


def test_an_upset_too_improbable_for_a_floating_point_number_still_has_a_finite_misfit() -> None:
    fitted = judge_fit(np.array([1]), np.array([0]), np.array([0]), np.array([400.0, -400.0]))
    assert np.isfinite(fitted.outfit).all()
    assert fitted.outfit[0] > 1e300
