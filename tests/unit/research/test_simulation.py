from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cjtasks.research.designs import DesignName
from cjtasks.research.judges import LANGUAGE_MODEL, Temper
from cjtasks.research.measures import measure
from cjtasks.research.simulation import (
    Chance,
    Scenario,
    Stopped,
    UntilReliable,
    measured_at,
    measured_when_stopped,
    rounds,
)

if TYPE_CHECKING:
    from cjtasks.research.measures import Measures

PERFECT = Temper(noise=0)


def final(scenario: Scenario, design: DesignName = DesignName.OURS, sessions: int = 1) -> list[Measures]:
    return [measured_at(scenario, design, [16], replication)[0] for replication in range(sessions)]


def stopped(scenario: Scenario, target: float, sessions: int = 1) -> list[Stopped]:
    rule = UntilReliable(target, most=16)
    return [measured_when_stopped(scenario, DesignName.OURS, rule, replication) for replication in range(sessions)]


@pytest.mark.parametrize("design", DesignName)
def test_a_judge_who_is_never_wrong_recovers_the_order(design: DesignName) -> None:
    (session,) = final(Scenario(12, spread=2.5, temper=PERFECT), design)
    assert session.tau >= 0.9
    assert session.r2 >= 0.8
    assert session.honest_reliability >= 0.85
    assert session.differences_found == 1


def test_every_pair_asked_of_a_judge_who_is_never_wrong_gives_the_order_exactly() -> None:
    (session,) = measured_at(Scenario(9, temper=PERFECT), DesignName.OURS, [16], 0)
    assert session.tau == 1


@pytest.mark.parametrize("design", DesignName)
def test_a_coin_toss_shows_no_differences(design: DesignName) -> None:
    sessions = final(Scenario(12, spread=0), design, sessions=12)
    assert np.mean([session.honest_reliability for session in sessions]) < 0.3
    assert np.mean([session.differences_found for session in sessions]) < 0.2
    assert np.mean([session.coverage for session in sessions]) > 0.95
    assert all(np.isnan(session.tau) and np.isnan(session.r2) for session in sessions)


def test_intervals_of_a_plain_judge_hold_the_truth_about_as_often_as_they_say() -> None:
    sessions = final(Scenario(20, spread=1.5), sessions=15)
    assert 0.9 < np.mean([session.coverage for session in sessions]) < 0.99
    assert 0.9 < np.mean([session.difference_coverage for session in sessions]) < 0.99


@pytest.mark.parametrize("shift", [-50.0, 50.0])
def test_a_truth_far_above_or_below_the_scores_is_covered_by_no_interval(shift: float) -> None:
    scenario = Scenario(12)
    *_, answers = rounds(scenario, DesignName.RANDOM, 96, 0)
    session = measure(answers, scenario.truth(0) + shift, np.random.default_rng(0), repeats_count_once=False)
    assert session.coverage == 0
    assert session.difference_coverage > 0.8


def test_a_side_preference_is_found() -> None:
    preferring, fair = (
        [session.side_effect for session in final(Scenario(30, temper=Temper(side=side)), sessions=6)]
        for side in (0.8, 0.0)
    )
    assert 0.6 < np.mean(preferring) < 1.1
    assert abs(np.mean(fair)) < 0.25


def test_the_same_seed_gives_the_same_measures_and_another_seed_others() -> None:
    one, same, other = (final(Scenario(12, temper=LANGUAGE_MODEL, seed=seed)) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_every_replication_has_a_truth_of_its_own_with_mean_0_and_the_spread() -> None:
    scenario = Scenario(500, spread=2.0)
    one, other = scenario.truth(0), scenario.truth(1)
    assert (one == scenario.truth(0)).all()
    assert (one != other).all()
    assert one.mean() == pytest.approx(0)
    assert one.std() == pytest.approx(2.0, abs=0.2)


def test_no_two_sources_of_chance_share_their_numbers() -> None:
    drawn = {Scenario().chance(replication, of).random() for replication in range(3) for of in Chance}
    assert len(drawn) == 3 * len(Chance)


def test_a_session_is_scored_at_each_cost_from_its_first_answers_on() -> None:
    sessions = measured_at(Scenario(12), DesignName.RANDOM, [16, 8, 12.5], 0)
    assert [session.comparisons_per_essay for session in sessions] == [8, 12.5, 16]
    assert sessions[0] == measured_at(Scenario(12), DesignName.RANDOM, [8], 0)[0]


def test_where_no_pair_is_left_a_session_is_scored_with_all_that_there_is() -> None:
    sessions = measured_at(Scenario(6), DesignName.OURS, [8, 12, 14], 0)
    assert [session.comparisons_per_essay for session in sessions] == [8, 10]


def test_below_6_essays_no_reliability_is_claimed() -> None:
    (session,) = measured_at(Scenario(5, spread=2.5), DesignName.OURS, [8], 0)
    assert np.isnan(session.honest_reliability)
    assert np.isnan(session.differences_found)
    assert session.tau > 0


def test_the_stop_rule_ends_a_session_as_soon_as_the_lower_quartile_reaches_the_target() -> None:
    (early,) = stopped(Scenario(30, spread=3.0), target=0.7)
    assert early.reliable
    assert early.measures.quartile >= 0.7
    assert early.measures.comparisons_per_essay < 16


def test_the_stop_rule_does_not_trust_a_coin_toss() -> None:
    for session in stopped(Scenario(30, spread=0), target=0.8, sessions=4):
        assert not session.reliable
        assert session.measures.comparisons_per_essay == 16


def test_the_stop_rule_waits_for_12_essays_and_for_the_first_iteration() -> None:
    rule = UntilReliable(target=0.5, most=16)
    for design in DesignName:
        few, enough = (measured_when_stopped(Scenario(essays, spread=4.0), design, rule, 0) for essays in (11, 12))
        assert not few.reliable
        assert enough.reliable
        assert enough.measures.comparisons_per_essay == 8


def test_all_designs_ask_the_same_judge_about_the_same_essays() -> None:
    scenario = Scenario(12, temper=Temper(noise=0, quirk=1.0))
    known: dict[tuple[int, int], bool] = {}
    for design in DesignName:
        *_, answers = rounds(scenario, design, 96, 0)
        for a, b, won in zip(answers.first, answers.second, answers.first_won, strict=True):
            assert known.setdefault((a, b), won) == won


@pytest.mark.parametrize(
    ("field", "values"),
    [("essays", {"essays": 1}), ("essays", {"essays": 1001}), ("spread", {"spread": -1}), ("seed", {"seed": -1})],
)
def test_a_scenario_out_of_range_is_refused_by_the_name_of_its_field(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{field} must "):
        Scenario(**values)


@pytest.mark.parametrize(("field", "values"), [("target", (1.0, 16)), ("target", (0.0, 16)), ("most", (0.8, 0.5))])
def test_a_stop_rule_out_of_range_is_refused_by_the_name_of_its_field(field: str, values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=f"^{field} must "):
        UntilReliable(*values)
