from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cjtasks.domain import posterior
from cjtasks.domain.mixture import Mixture
from cjtasks.domain.reliability import Assessment, Claims, Interval, assess
from cjtasks.domain.votes import Answers, FloatArray, count_votes
from tests.simulation import judged, random_pairs, simulated_batch

if TYPE_CHECKING:
    from collections.abc import Iterator


def assessed(answers: Answers, *, dense_up_to: int = 1_000) -> Assessment:
    return assess(answers, np.random.default_rng(0), repeats_count_once=False, dense_up_to=dense_up_to)


def claimed(answers: Answers, *, dense_up_to: int = 1_000) -> Claims:
    claims = assessed(answers, dense_up_to=dense_up_to).claims
    assert claims is not None
    return claims


def join(one: Answers, other: Answers) -> Answers:
    parts = zip((one.first, one.second, one.first_won), (other.first, other.second, other.first_won), strict=True)
    first, second, first_won = (np.concatenate(part) for part in parts)
    return Answers(first, second, first_won, one.n)


def adaptive(truth: FloatArray, rng: np.random.Generator, waves: int = 6) -> Answers:
    """Two random circles, then waves in which neighbours of the ranking so far meet."""
    answers = judged(truth, random_pairs(truth.size, 4, rng), rng)
    for _ in range(waves):
        scores = posterior.mode(count_votes(answers, repeats_count_once=False), 2.0)
        ranking = np.argsort(scores + rng.normal(0, 0.1, truth.size))
        answers = join(answers, judged(truth, (ranking, np.roll(ranking, 1)), rng))
    return answers


def r2(one: FloatArray, other: FloatArray) -> float:
    return float(np.corrcoef(one, other)[0, 1] ** 2)


# --- what it says is true ------------------------------------------------------------------------------------------


def test_a_judge_who_tosses_coins_is_not_called_reliable() -> None:
    claims = [claimed(simulated_batch(12, 16, 0, np.random.default_rng(seed))[1]) for seed in range(40)]
    assert np.mean([claim.reliability for claim in claims]) < 0.2
    assert np.mean([claim.differences_are_real for claim in claims]) < 0.15


def test_nor_when_pairs_are_chosen_to_be_close() -> None:
    batches = [adaptive(np.zeros(20), np.random.default_rng(seed)) for seed in range(25)]
    claims = [claimed(answers) for answers in batches]
    assert np.mean([claim.reliability for claim in claims]) < 0.2
    assert np.mean([claim.differences_are_real for claim in claims]) < 0.15


@pytest.mark.parametrize("spread", [0.6, 1.2, 2.5])
def test_reliability_is_near_the_squared_correlation_with_the_truth(spread: float) -> None:
    found = []
    for seed in range(30):
        truth, answers = simulated_batch(20, 16, spread, np.random.default_rng(seed))
        assessment = assessed(answers)
        assert assessment.claims is not None
        found.append((assessment.claims.reliability, r2(assessment.means, truth)))
    claimed_mean, true_mean = np.mean(found, axis=0)
    assert true_mean - 0.1 < claimed_mean < true_mean + 0.05


@pytest.fixture(scope="module")
def replications() -> list[tuple[FloatArray, Assessment]]:
    """Thirty batches of pairs chosen to be close, with what is true and what is said."""

    def each() -> Iterator[tuple[FloatArray, Assessment]]:
        for seed in range(30):
            rng = np.random.default_rng(seed)
            truth = rng.normal(0, 1.2, 20)
            yield truth - truth.mean(), assessed(adaptive(truth, rng))

    return list(each())


def test_score_intervals_cover_the_truth(replications: list[tuple[FloatArray, Assessment]]) -> None:
    covered = []
    for truth, assessment in replications:
        low, high = assessment.score_interval()
        covered.append(np.mean((low <= truth) & (truth <= high)))
    assert 0.9 < np.mean(covered) < 0.99


def test_difference_intervals_cover_the_truth(replications: list[tuple[FloatArray, Assessment]]) -> None:
    covered = []
    for truth, assessment in replications:
        for first, second in ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9)):
            low, high = assessment.difference_interval(first, second)
            covered.append(low <= truth[first] - truth[second] <= high)
    assert 0.88 < np.mean(covered) < 1


def test_rank_intervals_cover_the_true_ranks(replications: list[tuple[FloatArray, Assessment]]) -> None:
    covered = []
    for truth, assessment in replications:
        rank = (-truth).argsort().argsort() + 1
        covered.append(np.mean((assessment.ranks.low <= rank) & (rank <= assessment.ranks.high)))
    assert np.mean(covered) > 0.93


def test_the_interval_of_the_squared_correlation_covers_it(replications: list[tuple[FloatArray, Assessment]]) -> None:
    covered = []
    for truth, assessment in replications:
        assert assessment.claims is not None
        low, high = assessment.claims.r2_interval
        covered.append(low <= r2(assessment.means, truth) <= high)
    assert np.mean(covered) > 0.75


# --- what follows from its definition ------------------------------------------------------------------------------


def test_below_six_essays_there_are_scores_but_no_claims() -> None:
    _, five = simulated_batch(5, 8, 2.0, np.random.default_rng(0))
    _, six = simulated_batch(6, 8, 2.0, np.random.default_rng(0))
    assert assessed(five).claims is None
    assert np.ptp(assessed(five).means) > 0
    assert assessed(six).claims is not None


@pytest.mark.parametrize("dense_up_to", [1_000, 0])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_without_answers_nothing_is_known(n: int, dense_up_to: int) -> None:
    nobody = np.zeros(0, np.int64)
    assessment = assessed(Answers(nobody, nobody, np.zeros(0, np.bool_), n), dense_up_to=dense_up_to)
    assert assessment.prior_sd == 0
    assert assessment.likelihood_ratio == 0
    assert assessment.means.tolist() == [0] * n
    assert assessment.ranks.low.tolist() == [1] * n
    assert assessment.ranks.high.tolist() == [n] * n
    if assessment.claims is not None:
        assert assessment.claims.reliability == 0
        assert assessment.claims.r2_interval == Interval(0.0, 0.0)
        assert not assessment.claims.differences_are_real


@pytest.mark.parametrize("spread", [0.0, 1.2])
def test_the_posterior_is_integrated_over_every_width_of_the_prior(spread: float) -> None:
    _, answers = simulated_batch(12, 16, spread, np.random.default_rng(11))
    votes = count_votes(answers, repeats_count_once=False)
    widths = np.linspace(0.05, 6.5, 130)
    fits = [posterior.at(votes, width) for width in widths]
    weights = np.exp([fit.log_marginal for fit in fits])
    weights /= weights.sum() + 0.5  # Half a step belongs to no differences at all, whose likelihood is 1.
    expected = Mixture(12, fits, weights)
    assessment = assessed(answers)
    assert assessment.means == pytest.approx(expected.means(), abs=0.01)
    assert np.sqrt(assessment.variances) == pytest.approx(np.sqrt(expected.variances()), rel=0.03)
    reliabilities = np.array([fit.reliability for fit in fits])
    median = reliabilities[np.searchsorted(1 - weights.sum() + np.cumsum(weights), 0.5)]
    assert assessment.claims is not None
    assert assessment.claims.reliability_quantiles.q50 == pytest.approx(median, abs=0.03)


def test_draws_without_differences_put_every_essay_first_equally_often() -> None:
    votes = count_votes(simulated_batch(6, 8, 2.0, np.random.default_rng(12))[1], repeats_count_once=False)
    drawn = Mixture(6, [posterior.at(votes, 2.0)], np.array([0.25])).draws(4000, np.random.default_rng(0))
    tied = drawn[np.abs(drawn).max(axis=1) < 1e-3]
    assert len(tied) == pytest.approx(3000, abs=150)
    assert np.bincount(tied.argmax(axis=1)) == pytest.approx(np.full(6, 500), abs=100)


def test_quantiles_stand_in_order_around_the_estimate() -> None:
    claims = claimed(simulated_batch(30, 16, 1.2, np.random.default_rng(1))[1])
    quantiles = dataclasses.astuple(claims.reliability_quantiles)
    assert list(quantiles) == sorted(quantiles)
    assert quantiles[0] < claims.reliability < quantiles[-1]


def test_perfect_order_is_as_certain_as_can_be() -> None:
    first, second = np.triu_indices(12, 1)
    assessment = assessed(Answers(first, second, np.ones(first.size, np.bool_), 12))
    assert assessment.means.tolist() == sorted(assessment.means, reverse=True)
    assert assessment.prior_sd == pytest.approx(6.5)
    assert assessment.claims is not None
    assert assessment.claims.reliability > 0.9


def test_names_and_order_of_the_essays_do_not_matter() -> None:
    _, answers = simulated_batch(12, 8, 1.5, np.random.default_rng(2))
    name = np.random.default_rng(3).permutation(12)
    renamed = dataclasses.replace(answers, first=name[answers.first], second=name[answers.second])
    one, other = assessed(answers), assessed(renamed)
    assert other.means[name] == pytest.approx(one.means, abs=1e-6)
    assert other.variances[name] == pytest.approx(one.variances, abs=1e-6)
    assert other.prior_sd == pytest.approx(one.prior_sd, abs=1e-6)
    assert other.likelihood_ratio == pytest.approx(one.likelihood_ratio, abs=1e-6)


@pytest.mark.parametrize("repeats_count_once", [True, False])
def test_swapped_sides_with_swapped_answers_are_the_same_batch(*, repeats_count_once: bool) -> None:
    _, answers = simulated_batch(12, 8, 1.5, np.random.default_rng(4))
    swapped = Answers(answers.second, answers.first, ~answers.first_won, 12)
    one, other = (
        assess(given, np.random.default_rng(0), repeats_count_once=repeats_count_once) for given in (answers, swapped)
    )
    assert other.means == pytest.approx(one.means, abs=1e-9)
    assert other.claims == one.claims


def test_a_model_that_repeats_itself_gains_no_reliability_by_it() -> None:
    _, answers = simulated_batch(12, 8, 1.0, np.random.default_rng(5))
    once, thrice = (
        assess(given, np.random.default_rng(0), repeats_count_once=True)
        for given in (answers, join(answers, join(answers, answers)))
    )
    assert thrice.claims == once.claims
    assert thrice.means == pytest.approx(once.means)


def test_scores_reversed_answers_reversed() -> None:
    _, answers = simulated_batch(12, 8, 1.5, np.random.default_rng(6))
    reverse = dataclasses.replace(answers, first_won=~answers.first_won)
    assert assessed(reverse).means == pytest.approx(-assessed(answers).means, abs=1e-6)


def test_a_difference_is_surer_than_both_scores_suggest_where_they_were_compared() -> None:
    assessment = assessed(simulated_batch(12, 16, 1.2, np.random.default_rng(7))[1])
    assert assessment.covariance is not None
    low, high = assessment.difference_interval(0, 1)
    covariance = assessment.covariance
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert ((high - low) / 2 / 1.96) ** 2 == pytest.approx(expected)
    assert (low + high) / 2 == pytest.approx(assessment.means[0] - assessment.means[1])
    assert assessment.difference_interval(3, 3) == (0, 0)


def test_an_essay_never_compared_and_a_group_never_joined_keep_wide_intervals() -> None:
    _, one = simulated_batch(8, 16, 1.2, np.random.default_rng(8))
    apart = Answers(
        np.concatenate((one.first, one.first + 8)),
        np.concatenate((one.second, one.second + 8)),
        np.concatenate((one.first_won, one.first_won)),
        17,
    )
    assessment = assessed(apart)
    assert assessment.means[16] == pytest.approx(0, abs=1e-6)
    assert assessment.variances[16] > 2 * assessment.variances[:16].max()
    within, across = assessment.difference_interval(0, 1), assessment.difference_interval(0, 8)
    assert across.high - across.low > 0.9 * (within.high - within.low)


# --- sampled covariances -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.0, 2.5])
def test_sampling_hardly_changes_what_is_said(spread: float) -> None:
    _, answers = simulated_batch(150, 16, spread, np.random.default_rng(9))
    dense, sampled = assessed(answers), assessed(answers, dense_up_to=0)
    assert sampled.covariance is None
    assert sampled.prior_sd == pytest.approx(dense.prior_sd, abs=0.02)
    assert sampled.means == pytest.approx(dense.means, abs=0.04)
    assert np.sqrt(sampled.variances) == pytest.approx(np.sqrt(dense.variances), rel=0.06, abs=0.02)
    one, other = claimed(answers), claimed(answers, dense_up_to=0)
    assert other.reliability == pytest.approx(one.reliability, abs=0.005)
    assert other.differences_are_real == one.differences_are_real
    assert other.r2_interval == pytest.approx(one.r2_interval, abs=0.03)


def test_equal_chance_gives_equal_assessments() -> None:
    _, answers = simulated_batch(30, 8, 1.0, np.random.default_rng(10))
    for dense_up_to in (1_000, 0):
        one, other = (assessed(answers, dense_up_to=dense_up_to) for _ in range(2))
        assert one.claims == other.claims
        assert one.ranks.low.tolist() == other.ranks.low.tolist()
