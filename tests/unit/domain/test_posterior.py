from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from scipy.linalg import helmert
from scipy.special import expit, gammaln, log_expit

from cjtasks.domain import posterior
from cjtasks.domain.precision import DenseSpread, Noise
from cjtasks.domain.votes import Answers, FloatArray, Votes, count_votes
from tests.simulation import simulated_batch

if TYPE_CHECKING:
    from cjtasks.domain.posterior import Fit


def votes(n: int, *pairs: tuple[int, int]) -> Votes:
    """Return votes of people from (winner, loser)."""
    winners, losers = np.array(pairs, np.int64).reshape(-1, 2).T
    return count_votes(Answers(winners, losers, np.ones(winners.size, np.bool_), n), repeats_count_once=False)


def simulated(n: int, per_essay: int, spread: float, seed: int) -> Votes:
    _, answers = simulated_batch(n, per_essay, spread, np.random.default_rng(seed))
    return count_votes(answers, repeats_count_once=False)


class Moments(NamedTuple):
    log_marginal: float
    mean: FloatArray
    covariance: FloatArray


def log_likelihood(given: Votes, scores: FloatArray) -> FloatArray:
    """Return it for each row of (points, n) scores, relative to that of equal scores."""
    lead = scores[:, given.pairs.low] - scores[:, given.pairs.high]
    likelihood = log_expit(lead) @ given.low_wins + log_expit(-lead) @ given.high_wins
    return np.asarray(likelihood + given.count.sum() * np.log(2))


def moments(scores: FloatArray, log_weight: FloatArray) -> Moments:
    """Return what points of (points, n) scores add up to."""
    weight = np.exp(log_weight - log_weight.max())
    mean = weight @ scores / weight.sum()
    covariance = (scores - mean).T @ ((scores - mean) * weight[:, None]) / weight.sum()
    return Moments(float(np.log(weight.sum()) + log_weight.max()), mean, covariance)


def by_quadrature(given: Votes, prior_sd: float) -> Moments:
    """Integrate over a fine lattice on the plane of centred scores of three essays."""
    axis, step = np.linspace(-8 * prior_sd, 8 * prior_sd, 301, retstep=True)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    prior = -(plane**2).sum(axis=1) / (2 * prior_sd**2) - np.log(2 * np.pi * prior_sd**2)
    scores = plane @ helmert(3)
    return moments(scores, log_likelihood(given, scores) + prior + 2 * np.log(step))


def by_importance(given: Votes, fit: Fit, seed: int = 0, draws: int = 30_000) -> Moments:
    """Weigh draws from a Student t with 8 degrees of freedom, whose tails are longer than the posterior's."""
    assert fit.covariance is not None
    rng, freedom, basis = np.random.default_rng(seed), 8, helmert(given.pairs.n)
    size = given.pairs.n - 1
    factor = np.asarray(np.linalg.cholesky(basis @ fit.covariance @ basis.T), np.float64)
    normal = rng.standard_normal((draws, size))
    scale = rng.chisquare(freedom, draws) / freedom
    plane = basis @ fit.mean + (normal / np.sqrt(scale)[:, None]) @ factor.T
    distance = (normal**2).sum(axis=1) / scale
    proposal = -(freedom + size) / 2 * np.log1p(distance / freedom)
    prior = -(plane**2).sum(axis=1) / (2 * fit.prior_sd**2) - size * np.log(fit.prior_sd)
    scores = plane @ basis
    found = moments(scores, log_likelihood(given, scores) + prior - proposal)
    return found._replace(log_marginal=found.log_marginal + _log_normaliser(freedom, size, factor, draws))


def _log_normaliser(freedom: int, size: int, factor: FloatArray, draws: int) -> float:
    """Return what the densities above leave out: of the proposal, of the prior, and of the mean over draws."""
    student = gammaln((freedom + size) / 2) - gammaln(freedom / 2) - size / 2 * np.log(freedom * np.pi)
    return float(-student + np.log(np.diag(factor)).sum() - size / 2 * np.log(2 * np.pi) - np.log(draws))


@pytest.mark.parametrize("prior_sd", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_three_essays_have_the_posterior_that_quadrature_gives(prior_sd: float, seed: int) -> None:
    given = simulated(3, 8, 1.0, seed)
    fit, exact = posterior.at(given, prior_sd), by_quadrature(given, prior_sd)
    assert fit.log_marginal == pytest.approx(exact.log_marginal, abs=0.02)
    assert fit.mean == pytest.approx(exact.mean, abs=0.01)
    assert fit.covariance == pytest.approx(exact.covariance, abs=0.08 * exact.covariance.max())


@pytest.mark.parametrize("prior_sd", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n", [6, 12])
def test_more_essays_have_the_posterior_that_importance_sampling_gives(prior_sd: float, n: int) -> None:
    given = simulated(n, 16, 1.2, 1)
    fit = posterior.at(given, prior_sd)
    exact = by_importance(given, fit)
    assert fit.log_marginal == pytest.approx(exact.log_marginal, abs=0.06)
    assert fit.mean == pytest.approx(exact.mean, abs=0.05)
    assert fit.covariance == pytest.approx(exact.covariance, abs=0.15 * exact.covariance.max())


def test_the_mode_has_no_gradient() -> None:
    given = simulated(30, 10, 2.0, 3)
    scores = posterior.mode(given, 1.3)
    upset = given.count * expit(given.pairs.lead(scores)) - given.low_wins
    gradient = -given.pairs.over_essays(upset, -upset) - scores / 1.3**2
    assert gradient == pytest.approx(np.zeros(30), abs=1e-6)


def test_the_mode_of_hundreds_of_essays_has_no_gradient_either() -> None:
    given = simulated(300, 10, 2.0, 3)
    scores = posterior.mode(given, 1.3)
    upset = given.count * expit(given.pairs.lead(scores)) - given.low_wins
    gradient = -given.pairs.over_essays(upset, -upset) - scores / 1.3**2
    assert gradient == pytest.approx(np.zeros(300), abs=1e-5)


def test_what_is_still_to_be_answered_counts_as_information_whatever_the_answer() -> None:
    first, second, scores = np.array([0, 1, 1]), np.array([1, 0, 2]), np.array([0.5, 0.0, -0.5])
    won, lost = (
        count_votes(Answers(first, second, np.full(3, answer), 3), repeats_count_once=False) for answer in (True, False)
    )
    one, other = (posterior.information(given, scores, 2.0) for given in (won, lost))
    assert one.weights.tolist() == other.weights.tolist()
    p = expit(0.5)
    assert one.weights == pytest.approx([2 * p * (1 - p), p * (1 - p)])
    whole = one.lower() + np.tril(one.lower(), -1).T
    assert DenseSpread.of(one).covariance == pytest.approx(np.linalg.inv(whole) - 4 / 3)


def test_the_mode_does_not_depend_on_where_the_search_begins() -> None:
    given = simulated(12, 8, 2.0, 4)
    far = np.random.default_rng(0).normal(0, 20, 12)
    assert posterior.mode(given, 3.0, start=far - far.mean()) == pytest.approx(posterior.mode(given, 3.0), abs=1e-6)


def test_without_answers_the_posterior_is_the_prior() -> None:
    fit = posterior.at(votes(4), 1.5)
    assert fit.mean == pytest.approx(np.zeros(4))
    assert fit.covariance == pytest.approx(1.5**2 * (np.eye(4) - 1 / 4))
    assert fit.log_marginal == pytest.approx(0, abs=1e-12)


def test_an_essay_never_compared_stays_in_the_middle_as_uncertain_as_before() -> None:
    fit = posterior.at(votes(4, (0, 1), (1, 2), (2, 0), (0, 1)), 1.5)
    assert fit.mean[3] == pytest.approx(0, abs=1e-9)
    assert fit.spread.variances()[3] == pytest.approx(1.5**2 * 3 / 4)


def test_a_narrow_prior_is_as_likely_as_no_differences() -> None:
    assert posterior.at(simulated(12, 8, 1.0, 5), 1e-3).log_marginal == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("prior_sd", [0.0, -1.0, np.nan])
def test_a_prior_without_width_is_refused_by_name(prior_sd: float) -> None:
    with pytest.raises(ValueError, match="prior_sd must be above 0"):
        posterior.at(votes(2, (0, 1)), prior_sd)


# --- a sampled covariance ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many() -> Votes:
    return simulated(150, 16, 1.5, 7)


@pytest.fixture(scope="module", params=[0.3, 1.45, 4.8])
def both(request: pytest.FixtureRequest, many: Votes) -> tuple[Fit, Fit]:
    """A dense and a sampled fit of the same votes."""
    noise = Noise.drawn(many.pairs, np.random.default_rng(0))
    return posterior.at(many, request.param), posterior.at(many, request.param, noise=noise)


def relative_error(found: FloatArray, exact: FloatArray) -> float:
    return float(np.sqrt(np.mean((found / exact - 1) ** 2)))


def test_sampled_means_are_near_the_dense_ones(both: tuple[Fit, Fit]) -> None:
    dense, sampled = both
    assert sampled.covariance is None
    assert sampled.mode == pytest.approx(dense.mode, abs=1e-6)
    assert sampled.mean == pytest.approx(dense.mean, abs=0.02 * dense.prior_sd)


def test_a_sampled_marginal_likelihood_is_near_the_dense_one(both: tuple[Fit, Fit]) -> None:
    dense, sampled = both
    assert sampled.log_marginal == pytest.approx(dense.log_marginal, abs=0.3)


@pytest.mark.parametrize("per_essay", [0, 2, 4])
def test_it_is_so_for_few_comparisons_as_well(per_essay: int) -> None:
    given = simulated(120, per_essay, 2.0, 8) if per_essay else votes(120)
    noise = Noise.drawn(given.pairs, np.random.default_rng(0))
    for prior_sd in (0.3, 1.45, 4.8):
        dense, sampled = posterior.at(given, prior_sd), posterior.at(given, prior_sd, noise=noise)
        assert sampled.log_marginal == pytest.approx(dense.log_marginal, abs=0.3)
        assert sampled.error == pytest.approx(dense.error, rel=0.01)


def test_sampled_variances_are_within_two_percent_of_the_dense_ones(both: tuple[Fit, Fit]) -> None:
    dense, sampled = both
    assert relative_error(sampled.spread.variances(), dense.spread.variances()) < 0.02
    assert sampled.error == pytest.approx(dense.error, rel=0.01)


def test_sampled_differences_are_within_two_percent_whether_compared_or_not(both: tuple[Fit, Fit], many: Votes) -> None:
    dense, sampled = both
    neighbours = np.arange(149), np.arange(1, 150)
    for pairs in ((many.pairs.low, many.pairs.high), (many.pairs.high, many.pairs.low), neighbours):
        exact = dense.spread.difference_variances(*pairs)
        assert relative_error(sampled.spread.difference_variances(*pairs), exact) < 0.02


def test_draws_of_either_kind_have_the_covariance(both: tuple[Fit, Fit]) -> None:
    dense, sampled = both
    assert dense.covariance is not None
    for fit in both:
        drawn = fit.spread.draws(2000, np.random.default_rng(1))
        assert drawn.mean(axis=1) == pytest.approx(np.zeros(2000), abs=1e-4)
        off = drawn.T @ drawn / 2000 - dense.covariance
        assert np.abs(off).max() < 0.2 * np.diag(dense.covariance).max()
        assert np.trace(off) == pytest.approx(0, abs=0.02 * dense.error)
    assert sampled.spread.draws(0, np.random.default_rng(1)).shape == (0, 150)


# --- votes ---------------------------------------------------------------------------------------------------------


def repeated() -> Answers:
    """0 against 1 asked three times, twice won by 0; once turned round, won by 0; 2 against itself; 2 against 1."""
    first, second = np.array([0, 0, 0, 1, 2, 2]), np.array([1, 1, 1, 0, 2, 1])
    return Answers(first, second, np.array([True, True, False, False, True, True]), 3)


def test_every_answer_of_people_counts_and_a_comparison_with_itself_does_not() -> None:
    given = count_votes(repeated(), repeats_count_once=False)
    assert given.pairs.low.tolist() == [0, 1]
    assert given.pairs.high.tolist() == [1, 2]
    assert given.low_wins.tolist() == [3, 0]
    assert given.high_wins.tolist() == [1, 1]
    assert given.wins.tolist() == [3, 1, 1]


def test_the_same_question_asked_again_counts_once_with_its_answers_as_shares() -> None:
    given = count_votes(repeated(), repeats_count_once=True)
    assert given.low_wins == pytest.approx([2 / 3 + 1, 0])
    assert given.high_wins == pytest.approx([1 / 3, 1])


@pytest.mark.parametrize(
    ("field", "first", "second", "n"),
    [("n", [], [], -1), ("second", [0], [1, 0], 2), ("first", [2], [0], 2), ("second", [0], [-1], 2)],
)
def test_answers_that_do_not_fit_are_refused_by_name(field: str, first: list[int], second: list[int], n: int) -> None:
    with pytest.raises(ValueError, match=f"^{field} must"):
        Answers(np.array(first, np.int64), np.array(second, np.int64), np.ones(len(first), np.bool_), n)
