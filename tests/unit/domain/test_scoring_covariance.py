from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from cjtasks.domain.covariance import difference_errors, joint_covariance
from cjtasks.domain.scoring import FloatArray, IntArray, fit


def simulated(rng: np.random.Generator, truth: FloatArray, m: int) -> tuple[IntArray, IntArray]:
    n = truth.size
    first = rng.integers(n, size=m)
    second = (first + rng.integers(1, n, size=m)) % n
    first_wins = rng.random(m) < expit(truth[first] - truth[second])
    return np.where(first_wins, first, second), np.where(first_wins, second, first)


def test_the_joint_covariance_is_the_pseudo_inverse_of_the_information() -> None:
    winners, losers = simulated(np.random.default_rng(1), np.linspace(-2, 2, 15), 150)
    fitted = fit(winners, losers, 15)
    information = np.zeros((15, 15))
    for winner, loser in zip(winners, losers, strict=True):
        p = expit(fitted.scores[winner] - fitted.scores[loser])
        contrast = np.zeros(15)
        contrast[winner], contrast[loser] = 1, -1
        information += p * (1 - p) * np.outer(contrast, contrast)
    covariance = joint_covariance(winners, losers, fitted)
    assert covariance == pytest.approx(np.linalg.pinv(information, rtol=1e-10), abs=1e-10)
    assert covariance.sum(axis=1) == pytest.approx(np.zeros(15), abs=1e-12)


def test_the_difference_of_two_essays_alone_has_the_standard_error_of_a_logit() -> None:
    winners, losers = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0])
    fitted = fit(winners, losers, 2)
    errors = difference_errors(joint_covariance(winners, losers, fitted))
    p = expit(fitted.scores[0] - fitted.scores[1])
    assert errors == pytest.approx((4 * p * (1 - p)) ** -0.5 * np.array([[0, 1], [1, 0]]), abs=1e-7)


def test_intervals_on_differences_cover_what_was_simulated() -> None:
    rng, truth = np.random.default_rng(2), np.linspace(-2.5, 2.5, 20)
    covered = []
    for _ in range(30):
        winners, losers = simulated(rng, truth, 200)
        fitted = fit(winners, losers, 20)
        errors = difference_errors(joint_covariance(winners, losers, fitted))
        off = np.abs(np.subtract.outer(fitted.scores - truth, fitted.scores - truth))
        covered.append(np.mean((off < 1.96 * errors)[np.triu_indices(20, 1)]))
    assert 0.92 < np.mean(covered) < 0.99


def test_essays_without_a_common_scale_have_no_covariance() -> None:
    winners, losers = np.array([0, 2, 0, 3, 4]), np.array([2, 0, 2, 4, 3])
    fitted = fit(winners, losers, 5)
    errors = difference_errors(joint_covariance(winners, losers, fitted))
    assert np.isfinite(errors).tolist() == [
        [True, False, True, False, False],
        [False] * 5,
        [True, False, True, False, False],
        [False, False, False, True, True],
        [False, False, False, True, True],
    ]
    alone = fit(np.array([0, 1, 0]), np.array([1, 0, 1]), 2)
    expected = difference_errors(joint_covariance(np.array([0, 1, 0]), np.array([1, 0, 1]), alone))
    assert errors[0, 2] == pytest.approx(expected[0, 1])


def test_more_essays_than_a_dense_matrix_is_meant_for_are_refused() -> None:
    essays = np.arange(3001)
    fitted = fit(essays, np.roll(essays, 1), 3001)
    with pytest.raises(ValueError, match="3000 essays, got 3001"):
        joint_covariance(essays, np.roll(essays, 1), fitted)
