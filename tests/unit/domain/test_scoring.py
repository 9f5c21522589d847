from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import expit

from cjtasks.domain.scoring import BradleyTerryFit, FloatArray, IntArray, fit, largest_change

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
SESSIONS = sorted(GOLDEN.glob("*.json"))


def outcomes(*pairs: tuple[int, int]) -> tuple[IntArray, IntArray]:
    winners, losers = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return winners, losers


def simulated(n: int, m: int, seed: int) -> tuple[IntArray, IntArray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, n)
    first = rng.integers(n, size=m)
    second = (first + rng.integers(1, n, size=m)) % n
    first_wins = rng.random(m) < expit(truth[first] - truth[second])
    return np.where(first_wins, first, second), np.where(first_wins, second, first)


def residual(scores: FloatArray, winners: IntArray, losers: IntArray) -> FloatArray:
    """The equations written down comparison by comparison; the mean of the scores takes the last one's place."""
    n, epsilon = scores.size, 0.3
    number, won, expected, information = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for winner, loser in zip(winners, losers, strict=True):
        won[winner] += 1
        for essay, other in ((winner, loser), (loser, winner)):
            p = expit(scores[essay] - scores[other])
            number[essay] += 1
            expected[essay] += p
            information[essay] += p * (1 - p)
    adjusted = epsilon + (number - 2 * epsilon) / number * won
    c = (adjusted - expected).sum() / information.sum()
    gap: FloatArray = adjusted - expected - c * information
    gap[-1] = scores.mean()
    return gap


def assert_all_finite(fitted: BradleyTerryFit) -> None:
    for values in (fitted.scores, fitted.standard_errors, fitted.infit, fitted.outfit):
        assert np.isfinite(values).all()


def test_two_essays_at_three_to_one_have_the_closed_form() -> None:
    # Adjusted wins .3 + 3.4 / 4 * 3 = 2.85 of 4, so P = .7125 and the difference is its logit.
    fitted = fit(*outcomes((0, 1), (0, 1), (1, 0), (0, 1)), 2)
    p = 2.85 / 4
    half = math.log(p / (1 - p)) / 2
    assert fitted.scores == pytest.approx([half, -half], abs=1e-12)
    information = 4 * p * (1 - p)
    assert fitted.standard_errors == pytest.approx([information**-0.5] * 2)
    squared = 3 * (1 - p) ** 2 + p**2
    assert fitted.infit == pytest.approx([squared / information] * 2)
    assert fitted.outfit == pytest.approx([squared / information] * 2)
    assert fitted.comparisons.tolist() == [4, 4]
    assert fitted.wins.tolist() == [3, 1]
    variance = 2 * half**2
    assert fitted.ssr == pytest.approx(1 - 1 / information / variance)
    assert fitted.separation == pytest.approx(math.sqrt(variance * information))
    assert fitted.converged


@pytest.mark.parametrize(("n", "m", "seed"), [(4, 14, 1), (9, 40, 2), (30, 200, 3), (120, 900, 4)])
def test_scores_solve_the_equations_as_an_independent_solver_does(n: int, m: int, seed: int) -> None:
    winners, losers = simulated(n, m, seed)
    fitted = fit(winners, losers, n)
    independent = root(residual, np.zeros(n), args=(winners, losers), tol=1e-13)
    assert fitted.component_count == 1
    assert np.ptp(fitted.comparisons) > 0, "unequal numbers are what the surplus c is for"
    assert fitted.scores == pytest.approx(independent.x, abs=1e-8)


@pytest.mark.skipif(not SESSIONS, reason="the reference sessions are not beside this repository")
@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_real_sessions_agree_with_the_reference_within_their_tolerance(path: Path) -> None:
    session: dict[str, Any] = json.loads(path.read_text())
    expected = {name: np.array(value) for name, value in session["expected"].items()}
    decisions = np.array(session["decisions"])
    fitted = fit(decisions[:, 0], decisions[:, 1], session["n_items"])
    off_by = {
        "theta": np.abs(fitted.scores - expected["theta"]),
        "theta_over_se": np.abs(fitted.scores - expected["theta"]) / expected["se"],
        "se_rel": np.abs(fitted.standard_errors / expected["se"] - 1),
        "infit_rel": np.abs(fitted.infit / expected["infit"] - 1),
        "outfit_rel": np.abs(fitted.outfit / expected["outfit"] - 1),
        "ssr": np.abs(fitted.ssr - expected["ssr"]),
        "sep_g_rel": np.abs(fitted.separation / expected["sep_g"] - 1),
    }
    assert fitted.converged
    assert {name: np.max(off) for name, off in off_by.items() if np.max(off) > session["tolerance"][name]} == {}


def test_a_comparison_of_an_essay_with_itself_counts_as_a_win_and_a_loss() -> None:
    fitted = fit(*outcomes((0, 0), (0, 1), (0, 1), (1, 0)), 2)
    assert fitted.comparisons.tolist() == [5, 3]
    assert fitted.wins.tolist() == [3, 1]
    p = expit(fitted.scores[0] - fitted.scores[1])
    expected, information = np.array([3 * p + 1, 3 * (1 - p)]), 3 * p * (1 - p) + np.array([0.5, 0])
    adjusted = 0.3 + np.array([4.4 / 5 * 3, 2.4 / 3 * 1])
    c = (adjusted - expected).sum() / information.sum()
    assert adjusted - expected == pytest.approx(c * information)
    assert fitted.standard_errors == pytest.approx(information**-0.5)


def test_many_essays_and_few_are_solved_by_different_means_to_the_same_scores() -> None:
    # Two copies of one session are 200 essays for the sparse solver, and one is 100 for the dense.
    winners, losers = simulated(100, 700, 5)
    once = fit(winners, losers, 100)
    twice = fit(np.concatenate((winners, winners + 100)), np.concatenate((losers, losers + 100)), 200)
    assert once.component_count == 1
    assert twice.component_count == 2
    assert twice.scores == pytest.approx(np.tile(once.scores, 2), abs=1e-8)
    assert twice.outfit == pytest.approx(np.tile(once.outfit, 2))
    assert abs(twice.iterations - once.iterations) <= 2


def test_groups_that_nothing_joins_are_reported_and_never_joined() -> None:
    left = [(0, 2), (2, 0), (0, 2)]
    right = [(3, 4), (4, 5), (5, 3), (3, 4)]
    both = fit(*outcomes(*left, *right), 6)
    assert both.component_count == 2
    assert both.component.tolist() == [0, -1, 0, 1, 1, 1]
    assert both.scores[[0, 2]] == pytest.approx(fit(*outcomes(*left), 6).scores[[0, 2]], abs=1e-10)
    assert both.scores[3:] == pytest.approx(fit(*outcomes(*right), 6).scores[3:], abs=1e-10)
    assert math.isnan(both.scores[1])
    assert math.isnan(both.ssr)
    assert math.isnan(both.separation)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_without_comparisons_every_score_is_missing(n: int) -> None:
    fitted = fit(*outcomes(), n)
    for values in (fitted.scores, fitted.standard_errors, fitted.infit, fitted.outfit):
        assert values.shape == (n,)
        assert np.isnan(values).all()
    assert fitted.component.tolist() == [-1] * n
    assert fitted.comparisons.tolist() == [0] * n
    assert fitted.component_count == 0
    assert math.isnan(fitted.ssr)
    assert fitted.converged


def test_equal_scores_have_no_scale_separation_reliability() -> None:
    fitted = fit(*outcomes((0, 1), (1, 2), (2, 0)), 3)
    assert fitted.scores == pytest.approx([0, 0, 0], abs=1e-12)
    assert math.isnan(fitted.ssr)
    assert fitted.separation == pytest.approx(0, abs=1e-9)


def test_a_million_wins_in_a_row_give_a_finite_score() -> None:
    m = 1_000_000
    fitted = fit(np.zeros(m, np.int64), np.ones(m, np.int64), 2)
    assert fitted.converged
    assert fitted.scores[0] - fitted.scores[1] == pytest.approx(math.log((m - 0.3) / 0.3), abs=1e-9)


def test_lopsided_counts_on_which_undamped_newton_steps_diverge_are_solved() -> None:
    often = [41, 3, 14, 23, 31, 7, 1, 14, 3, 46, 1, 6, 35]
    winners = np.repeat([6, 3, 1, 2, 1, 2, 0, 8, 5, 5, 8, 4, 0], often)
    losers = np.repeat([7, 6, 4, 3, 3, 7, 2, 0, 0, 8, 1, 0, 4], often)
    fitted = fit(winners, losers, 9)
    assert fitted.converged
    assert residual(fitted.scores, winners, losers) == pytest.approx(np.zeros(9), abs=1e-8)


@pytest.mark.parametrize("n", [3, 60, 300])
def test_a_perfect_order_still_has_finite_scores(n: int) -> None:
    better, worse = np.triu_indices(n, 1)
    fitted = fit(better, worse, n)
    assert fitted.converged
    assert_all_finite(fitted)
    assert (np.diff(fitted.scores) < 0).all()


def test_a_chain_of_two_thousand_essays_has_equal_steps() -> None:
    essays = np.arange(2000)
    fitted = fit(essays[:-1], essays[1:], 2000)
    assert fitted.converged
    assert np.diff(fitted.scores) == pytest.approx(np.full(1999, -math.log(7 / 3)), abs=1e-6)


# Essay 1 is to win .3 in all. Where essay 0 beat it, it has that already, so that its chance against essay 2 would
# have to be 0; where two more beat it, its chance would have to be negative.
BARELY_UNSOLVABLE = [(0, 1), (2, 1), (2, 3)]
UNSOLVABLE = [*BARELY_UNSOLVABLE, (4, 1), (5, 1)]


@pytest.mark.parametrize("copies", [1, 40])
@pytest.mark.parametrize("pairs", [BARELY_UNSOLVABLE, UNSOLVABLE])
def test_thin_data_without_a_solution_get_finite_scores_and_say_so(pairs: list[tuple[int, int]], copies: int) -> None:
    size = max(max(pair) for pair in pairs) + 1
    every = np.concatenate([np.array(pairs) + size * copy for copy in range(copies)])
    fitted = fit(every[:, 0], every[:, 1], size * copies)
    assert not fitted.converged
    assert_all_finite(fitted)
    for winner, loser in every:
        assert fitted.scores[winner] > fitted.scores[loser]
    assert np.abs(fitted.scores).max() < 5


@pytest.mark.parametrize("n", [50, 400])
def test_where_every_pair_is_split_evenly_all_scores_are_equal(n: int) -> None:
    winners, losers = simulated(n, 10 * n, 7)
    fitted = fit(np.concatenate((winners, losers)), np.concatenate((losers, winners)), n)
    assert fitted.converged
    assert np.abs(fitted.scores).max() < 1e-9


def test_the_order_of_the_comparisons_changes_nothing() -> None:
    winners, losers = simulated(20, 150, 6)
    order = np.random.default_rng(0).permutation(150)
    assert fit(winners, losers, 20).scores.tolist() == fit(winners[order], losers[order], 20).scores.tolist()


@pytest.mark.parametrize(("winners", "losers"), [([0], [0, 1]), ([0], [2]), ([-1], [1])])
def test_outcomes_that_do_not_fit_the_essays_are_refused(winners: list[int], losers: list[int]) -> None:
    with pytest.raises(ValueError, match="winners and losers"):
        fit(np.array(winners), np.array(losers), 2)


def test_a_negative_number_of_essays_is_refused() -> None:
    with pytest.raises(ValueError, match="n must"):
        fit(*outcomes(), -1)


@pytest.mark.parametrize("epsilon", [0.0, 0.6, math.nan])
def test_an_adjustment_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        fit(*outcomes((0, 1)), 2, epsilon=epsilon)


def test_the_largest_change_is_taken_over_essays_scored_both_times() -> None:
    before = {"a": 0.0, "b": 1.0, "gone": -9.0, "unscored": math.nan}
    after = {"a": 0.2, "b": 0.5, "new": 9.0, "unscored": 3.0}
    assert largest_change(before, after) == pytest.approx(0.5)


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": math.nan}, {"a": 1.0})])
def test_scores_that_share_no_essay_have_changed_without_limit(
    before: dict[str, float], after: dict[str, float]
) -> None:
    assert largest_change(before, after) == math.inf
