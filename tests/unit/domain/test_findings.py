"""What is found in a session, and what is said of it in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from cjtasks.domain import scoring
from cjtasks.domain.certainty import Certainty
from cjtasks.domain.findings import Findings, Judgements, find, misfitting
from cjtasks.domain.plain_words import in_words
from cjtasks.domain.votes import Answers
from tests.simulation import simulated_batch


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def answers(*outcomes: tuple[int, int], n: int) -> Answers:
    """Give answers by winner and loser, the winner first."""
    winners, losers = np.array(outcomes, np.int64).reshape(-1, 2).T
    return Answers(winners, losers, np.ones(winners.size, np.bool_), n)


def found(essays: int, per_essay: int, spread: float, seed: int = 1) -> Findings:
    _, given = simulated_batch(essays, per_essay, spread, rng(seed))
    return find(Judgements(given), rng())


def words(findings: Findings) -> str:
    return " ".join(in_words(findings))


def test_ranks_follow_the_posterior_scores_and_groups_follow_the_ranks() -> None:
    findings = found(12, 16, 2.0)
    best_first = np.argsort(findings.ranks)
    assert sorted(findings.ranks) == list(range(1, 13))
    assert (np.diff(findings.assessment.means[best_first]) <= 0).all()
    assert findings.groups[best_first[0]] == 1
    assert set(np.diff(findings.groups[best_first])) == {0, 1}
    assert (findings.assessment.ranks.low <= findings.ranks).all()
    assert (findings.ranks <= findings.assessment.ranks.high).all()


def test_the_next_essay_is_better_with_a_probability_below_one_half_and_the_last_has_no_next() -> None:
    findings = found(12, 16, 2.0)
    best_first = findings.swap_below[np.argsort(findings.ranks)]
    assert ((best_first[:-1] > 0) & (best_first[:-1] <= 0.5)).all()
    assert np.isnan(best_first[-1])


def test_beside_the_posterior_stands_the_conventional_fit_of_the_same_comparisons() -> None:
    _, given = simulated_batch(8, 12, 1.5, rng())
    judges = rng().integers(3, size=given.first.size)
    findings = find(Judgements(given, judges=judges), rng())
    winners = np.where(given.first_won, given.first, given.second)
    losers = np.where(given.first_won, given.second, given.first)
    fit = scoring.fit(winners, losers, 8)
    assert findings.conventional.scores == pytest.approx(fit.scores)
    assert findings.judges is not None
    assert findings.judges.infit == pytest.approx(scoring.judge_fit(winners, losers, judges, fit.scores).infit)
    assert find(Judgements(given), rng()).judges is None


def test_clear_differences_judged_often_are_enough() -> None:
    findings = found(20, 30, 2.5)
    assert findings.conclusion is not None
    assert findings.conclusion.certainty is Certainty.ENOUGH
    assert findings.more_comparisons == 0
    assert in_words(findings)[0].startswith("Enough")
    assert "The differences between the essays are real" in words(findings)
    assert "more comparisons" not in words(findings)


def test_coin_tosses_are_never_enough_and_no_difference_is_claimed() -> None:
    findings = found(20, 16, 0.0, seed=4)
    assert findings.conclusion is not None
    assert findings.conclusion.certainty is Certainty.NOT_ENOUGH
    assert in_words(findings)[0].startswith("Not enough")
    assert "may be chance" in words(findings)


def test_so_many_more_comparisons_are_asked_for_as_spearman_and_brown_say() -> None:
    findings = found(20, 12, 1.5)
    claims = findings.assessment.claims
    assert claims is not None
    reached = claims.reliability_quantiles.q25
    assert 0.5 < reached < 0.8
    total = findings.comparisons + (findings.more_comparisons or 0)
    times = total / findings.comparisons
    assert times * reached / (1 + (times - 1) * reached) == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize(("target", "headline"), [(0.5, "Enough"), (0.75, "A few more"), (0.9, "Not enough")])
def test_what_is_enough_depends_on_the_target(target: float, headline: str) -> None:
    _, given = simulated_batch(30, 16, 1.2, rng(2))
    findings = find(Judgements(given), rng(), target=target)
    assert in_words(findings)[0].startswith(headline)
    assert f"{target:.2f} is asked for" in words(findings)


def test_how_many_more_is_said_in_two_digits_and_for_each_essay() -> None:
    _, given = simulated_batch(30, 16, 1.2, rng(2))
    findings = find(Judgements(given), rng(), target=0.75)
    more = findings.more_comparisons
    assert more is not None
    assert 0 < more < 100
    assert f"About {more} more comparisons" in words(findings)
    assert f"{-(-2 * more // 30)} more for each essay, which has 16 on average now" in words(findings)
    many = find(Judgements(given), rng(), target=0.9)
    assert many.more_comparisons is not None
    assert 100 < many.more_comparisons < 1000
    assert f"{-(-2 * many.more_comparisons // 30)} more for each essay" in words(many)
    assert f"About {-(-many.more_comparisons // 10) * 10} more comparisons" in words(many)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.5, float("nan")])
def test_a_target_out_of_range_is_refused_by_name(target: float) -> None:
    with pytest.raises(ValueError, match="target must be above 0 and below 1"):
        find(Judgements(answers((0, 1), n=2)), rng(), target=target)


def test_nothing_is_claimed_of_fewer_than_six_essays() -> None:
    findings = found(5, 40, 3.0)
    assert (findings.conclusion, findings.more_comparisons) == (None, None)
    assert in_words(findings) == (
        "Nothing can be claimed about this ranking.",
        "Reliability needs at least 6 essays; 5 were compared.",
    )


def test_nothing_is_claimed_across_essays_that_nothing_joins() -> None:
    _, left = simulated_batch(6, 20, 3.0, rng())
    both = Answers(
        np.concatenate((left.first, left.first + 6)),
        np.concatenate((left.second, left.second + 6)),
        np.concatenate((left.first_won, left.first_won)),
        12,
    )
    findings = find(Judgements(both), rng())
    assert (findings.parts, findings.conclusion) == (2, None)
    assert "fall into 2 parts" in words(findings)
    assert "Reliability is" not in words(findings)


def test_an_essay_without_a_comparison_has_no_score_and_changes_nobody_elses() -> None:
    _, given = simulated_batch(8, 12, 1.5, rng())
    with_others = Answers(given.first + 1, given.second + 1, given.first_won, 10)
    alone, findings = find(Judgements(given), rng()), find(Judgements(with_others), rng())
    assert findings.compared.tolist() == list(range(1, 9))
    assert findings.unscored.tolist() == [0, 9]
    assert findings.assessment.means == pytest.approx(alone.assessment.means)
    assert "without a score: 2" in words(findings)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_session_without_a_comparison_has_no_score(n: int) -> None:
    findings = find(Judgements(answers(n=n)), rng())
    assert (findings.compared.size, findings.unscored.size, findings.comparisons) == (0, n, 0)
    assert in_words(findings)[0].startswith("Nothing can be claimed")


def test_a_language_model_that_repeats_itself_says_nothing_new() -> None:
    _, once = simulated_batch(8, 12, 1.5, rng())
    twice = Answers(np.tile(once.first, 2), np.tile(once.second, 2), np.tile(once.first_won, 2), 8)
    model = Judgements(once, sides_known=True, repeats_count_once=True)
    again = find(replace(model, answers=twice), rng())
    assert again.standard_errors == pytest.approx(find(model, rng()).standard_errors)
    people = find(Judgements(twice), rng())
    assert (people.standard_errors < again.standard_errors).all()


@pytest.mark.parametrize(
    ("eta", "said"), [(1.5, "shown first is preferred (+"), (-1.5, "shown second is preferred (\N{MINUS SIGN}")]
)
def test_a_judge_who_prefers_a_side_is_found_out(eta: float, said: str) -> None:
    truth, given = simulated_batch(12, 40, 1.0, rng())
    lead = truth[given.first] - truth[given.second] + eta
    sided = Answers(given.first, given.second, rng(3).random(lead.size) < expit(lead), 12)
    findings = find(Judgements(sided, sides_known=True), rng())
    assert findings.side is not None
    assert findings.side.eta == pytest.approx(eta, abs=0.6)
    assert said in words(findings)
    assert find(Judgements(sided), rng()).side is None


def test_a_judge_without_a_preferred_side_is_not_accused() -> None:
    _, given = simulated_batch(12, 40, 1.0, rng(2))
    assert "no difference that could be found" in words(find(Judgements(given, sides_known=True), rng()))


@pytest.mark.parametrize(("essays", "told"), [(5, False), (12, True)])
def test_ssr_is_told_for_comparison_where_anything_is_claimed(essays: int, told: bool) -> None:
    findings = found(essays, 16, 2.0)
    assert (f"is {findings.conventional.ssr:.2f}; too high" in words(findings)) is told


def test_misfit_is_an_infit_above_the_mean_by_more_than_two_standard_deviations() -> None:
    infit = np.array([1.0] * 9 + [2.0])  # Mean 1.1, standard deviation 0.316: the limit is 1.732.
    assert misfitting(infit).tolist() == [False] * 9 + [True]
    assert not misfitting(np.array([1.0] * 4 + [2.0])).any()
    at_1_9_of_a_sample_and_2_1_of_a_population = np.array([0.0, 0.0, 0.0, 0.0, 2.2, 9.0])
    assert not misfitting(at_1_9_of_a_sample_and_2_1_of_a_population).any()
    assert misfitting(np.array([0.0] * 5 + [9.0])).tolist() == [False] * 5 + [True]
    assert misfitting(np.array([0.0] * 4 + [9.0])).tolist() == [False] * 5
    assert misfitting(np.array([5.0])).tolist() == [False]
    assert misfitting(np.zeros(0)).size == 0


def test_the_same_seed_gives_the_same_findings() -> None:
    one, other = found(12, 16, 1.0), found(12, 16, 1.0)
    assert one.assessment.ranks.low.tolist() == other.assessment.ranks.low.tolist()
    assert words(one) == words(other)
