from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from cjtasks.research.designs import DesignName
from cjtasks.research.measures import Measures, kendall_tau, squared_correlation
from cjtasks.research.simulation import Stopped
from cjtasks.research.summary import equal_cost, equal_cost_estimate, estimate, row_when_stopped, rows_at, summarise

SESSION = Measures(
    comparisons_per_essay=16.0,
    tau=0.7,
    r2=0.8,
    honest_reliability=0.75,
    quartile=0.7,
    ssr=0.9,
    coverage=0.95,
    difference_coverage=0.94,
    differences_found=1.0,
    side_effect=0.1,
)


def test_tau_is_the_share_of_pairs_in_the_true_order_less_that_of_the_others() -> None:
    rng = np.random.default_rng(1)
    truth, scores = rng.normal(size=(2, 15))
    pairs = list(combinations(range(15), 2))
    agree = [(truth[i] - truth[j]) * (scores[i] - scores[j]) > 0 for i, j in pairs]
    assert kendall_tau(scores, truth) == pytest.approx((sum(agree) - (len(pairs) - sum(agree))) / len(pairs))


def test_r2_is_the_square_of_the_correlation_and_0_where_nothing_is_told_apart() -> None:
    rng = np.random.default_rng(2)
    truth, scores = rng.normal(size=(2, 15))
    assert squared_correlation(scores, truth) == pytest.approx(np.corrcoef(scores, truth)[0, 1] ** 2)
    assert squared_correlation(np.zeros(15), truth) == 0


def test_without_true_differences_there_is_no_tau_and_no_r2() -> None:
    scores = np.arange(4.0)
    assert np.isnan(kendall_tau(scores, np.zeros(4)))
    assert np.isnan(squared_correlation(scores, np.zeros(4)))


def test_an_estimate_is_the_mean_with_its_standard_error() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    assert estimate(values) == pytest.approx((3.0, np.sqrt(10 / 3) / 2))


def test_sessions_without_a_value_are_left_out_of_the_estimate() -> None:
    assert estimate(np.array([1.0, np.nan, 3.0])) == pytest.approx((2.0, 1.0))
    assert estimate(np.array([7.0, np.nan])) == pytest.approx((7.0, np.nan), nan_ok=True)
    assert np.isnan(estimate(np.array([np.nan, np.nan]))).all()


def test_each_measure_is_summarised_under_its_name() -> None:
    summary = summarise([SESSION, replace(SESSION, tau=0.9)])
    assert summary["tau"].mean == pytest.approx(0.8)
    assert summary["ssr"] == pytest.approx((0.9, 0.0))


def test_there_is_a_row_for_each_cost_at_which_the_sessions_were_scored() -> None:
    later = replace(SESSION, tau=0.9)
    rows = rows_at(DesignName.OURS, [[SESSION, later], [SESSION, later]])
    assert [(row.sessions, row.estimates["tau"].mean) for row in rows] == [(2, 0.7), (2, 0.9)]


def test_a_row_of_stopped_sessions_has_the_share_that_reached_the_target() -> None:
    row = row_when_stopped(DesignName.OURS, [Stopped(reliable, SESSION) for reliable in (True, True, True, False)])
    assert row.estimates["stopped"].mean == 0.75


def test_the_equal_cost_is_where_the_baseline_reaches_the_same_accuracy() -> None:
    costs, accuracy = np.array([10.0, 12.0, 14.0]), np.array([0.70, 0.74, 0.76])
    assert equal_cost(costs, accuracy, 0.74) == pytest.approx(12)
    assert equal_cost(costs, accuracy, 0.75) == pytest.approx(13)


def test_a_dip_in_the_baseline_is_taken_for_chance() -> None:
    costs, accuracy = np.array([10.0, 12.0, 14.0]), np.array([0.70, 0.69, 0.76])
    assert equal_cost(costs, accuracy, 0.73) == pytest.approx(13)


@pytest.mark.parametrize("reached", [0.69, 0.77])
def test_there_is_no_equal_cost_outside_of_what_the_baseline_tried(reached: float) -> None:
    assert np.isnan(equal_cost(np.array([10.0, 14.0]), np.array([0.70, 0.76]), reached))


def test_sessions_that_vary_together_leave_little_error_in_the_equal_cost() -> None:
    rng = np.random.default_rng(3)
    costs, luck = np.array([10.0, 12.0, 14.0]), rng.normal(0, 0.1, 200)
    baseline = np.array([0.70, 0.74, 0.76]) + luck[:, None]
    together = equal_cost_estimate(costs, baseline, 0.74 + luck, np.random.default_rng(0))
    apart = equal_cost_estimate(costs, baseline, 0.74 + rng.permutation(luck), np.random.default_rng(0))
    assert together == pytest.approx((12, 0), abs=1e-6)
    assert apart.error > 0.1
