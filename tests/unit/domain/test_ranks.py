from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cjtasks.domain.certainty import Certainty, conclude
from cjtasks.domain.ranks import groups, order, rank_intervals, swap_probabilities
from cjtasks.domain.reliability import Claims, Interval, Quantiles, assess
from tests.simulation import simulated_batch

if TYPE_CHECKING:
    from cjtasks.domain.votes import FloatArray, IntArray


class Independent:
    """Scores that vary independently of each other."""

    def __init__(self, means: list[float], sd: float) -> None:
        self._means, self._sd = np.array(means), sd

    def means(self) -> FloatArray:
        return self._means

    def difference_variances(self, first: IntArray, second: IntArray) -> FloatArray:  # noqa: ARG002  Equal for all.
        return np.full(first.shape, 2 * self._sd**2)


def test_the_order_goes_from_the_highest_score_down_and_keeps_equals_in_place() -> None:
    assert order(Independent([0.0, 2.0, 0.0, 1.0], 1.0)).tolist() == [1, 3, 0, 2]


def test_neighbours_are_swapped_as_often_as_the_normal_distribution_says() -> None:
    found = swap_probabilities(Independent([1.0, 3.0, 1.0], 1 / np.sqrt(2)))
    assert found == pytest.approx([0.022750, 0.5], abs=1e-6)


def test_swap_probabilities_agree_with_draws_from_the_posterior() -> None:
    _, answers = simulated_batch(20, 10, 1.5, np.random.default_rng(0))
    posterior = assess(answers, np.random.default_rng(1), repeats_count_once=False).posterior
    drawn = posterior.draws(20_000, np.random.default_rng(2))[:, order(posterior)]
    assert swap_probabilities(posterior) == pytest.approx((drawn[:, :-1] < drawn[:, 1:]).mean(axis=0), abs=0.02)


def test_essays_are_grouped_with_the_first_one_that_is_not_surely_better() -> None:
    # With this sd a lead of 1.645 is sure at 95 %: 3.0 is above 1.3 but not above 1.4.
    scores = Independent([0.0, 3.0, 1.4, 1.3, 2.0], 1 / np.sqrt(2))
    assert [group.tolist() for group in groups(scores)] == [[1, 4, 2], [3, 0]]


def test_without_essays_there_are_no_groups_and_without_differences_there_is_one() -> None:
    assert groups(Independent([], 1.0)) == []
    assert [group.tolist() for group in groups(Independent([0.0] * 4, 1.0))] == [[0, 1, 2, 3]]


def test_a_more_demanding_rule_makes_fewer_groups() -> None:
    _, answers = simulated_batch(30, 16, 2.0, np.random.default_rng(3))
    posterior = assess(answers, np.random.default_rng(1), repeats_count_once=False).posterior
    lax, strict = groups(posterior, 0.8), groups(posterior, 0.999)
    assert len(lax) > len(strict) > 1
    assert np.concatenate(strict).tolist() == order(posterior).tolist()


def test_rank_intervals_hold_the_share_of_draws_that_was_asked_for() -> None:
    drawn = np.random.default_rng(4).normal([2.0, 1.0, 0.0, 0.0], 0.8, (4000, 4))
    ranks = (-drawn).argsort(axis=1).argsort(axis=1) + 1
    intervals = rank_intervals(drawn, 0.8)
    inside = ((intervals.low <= ranks) & (ranks <= intervals.high)).mean(axis=0)
    assert (inside >= 0.8).all()
    assert intervals.low[0] == 1
    assert intervals.high[2] == 4


# --- how sure a ranking is -----------------------------------------------------------------------------------------


def claims(q25: float, *, real: bool = True) -> Claims:
    return Claims(q25, Quantiles(q25, q25, q25, q25, q25), real, Interval(q25, q25))


@pytest.mark.parametrize(
    ("q25", "certainty"),
    [
        (0.9, Certainty.ENOUGH),
        (0.87, Certainty.A_FEW_MORE),
        (0.86, Certainty.A_FEW_MORE),
        (0.85, Certainty.NOT_ENOUGH),
        (0.0, Certainty.NOT_ENOUGH),
    ],
)
def test_a_ranking_is_as_sure_as_its_lower_quartile(q25: float, certainty: Certainty) -> None:
    assert conclude(claims(q25), 0.9).certainty is certainty


def test_what_is_needed_is_counted_by_the_spearman_brown_formula() -> None:
    needed = conclude(claims(0.8), 0.9).comparisons_needed
    assert needed == pytest.approx(2.25)
    assert needed * 0.8 / (1 + (needed - 1) * 0.8) == pytest.approx(0.9)
    assert conclude(claims(0.0), 0.9).comparisons_needed == np.inf


def test_differences_that_may_be_chance_are_never_enough() -> None:
    conclusion = conclude(claims(0.95, real=False), 0.9)
    assert conclusion.certainty is Certainty.NOT_ENOUGH
    assert not conclusion.differences_are_real


@pytest.mark.parametrize("target", [0.0, 1.0, np.nan])
def test_a_target_that_cannot_be_reached_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target must be above 0 and below 1"):
        conclude(claims(0.9), target)
