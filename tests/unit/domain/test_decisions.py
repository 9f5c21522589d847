"""What a batch does next, for every count of answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjtasks.domain.decisions import (
    Decision,
    Iterations,
    Progress,
    StopReason,
    StopRule,
    at_deadline,
    decide,
    why_stop,
)
from cjtasks.domain.states import BatchStateEnum

WAITING = BatchStateEnum.WAITING_CALLBACKS
SUFFICIENT = 0.8
RULE = StopRule(max_iterations=5, reliability_target=0.9, stability_threshold=0.05)
GOING_ON = Iterations(essays=12, done=2, planned=100, budget=1000, pair_ceiling=600, score_change=0.3)


@st.composite
def any_progress(draw: st.DrawFn) -> Progress:
    total = draw(st.integers(1, 400))
    completed = draw(st.integers(0, total))
    failed = draw(st.integers(0, total - completed))
    threshold = draw(st.none() | st.integers(50, 100))
    return Progress(draw(st.sampled_from(BatchStateEnum)), total, completed, failed, threshold)


def progress(total: int, completed: int, failed: int, partial_pct: int | None = None) -> Progress:
    return Progress(WAITING, total, completed, failed, partial_pct)


@pytest.mark.parametrize(
    ("counts", "decision"),
    [
        ((100, 0, 0), Decision.WAIT),
        ((100, 99, 0), Decision.WAIT),
        ((100, 100, 0), Decision.ADVANCE),
        ((100, 80, 20), Decision.ADVANCE),
        ((100, 79, 21), Decision.FAIL),
        ((100, 0, 9), Decision.WAIT),
        ((100, 0, 10), Decision.FAIL),
        ((100, 7, 3), Decision.FAIL),
        ((100, 8, 2), Decision.WAIT),
        ((4, 2, 1), Decision.WAIT),
        ((4, 3, 1), Decision.FAIL),
        ((5, 4, 1), Decision.ADVANCE),
    ],
)
def test_a_batch_waits_fails_or_goes_on(counts: tuple[int, int, int], decision: Decision) -> None:
    assert decide(progress(*counts), SUFFICIENT) is decision


@pytest.mark.parametrize(
    ("counts", "decision"),
    [
        ((100, 94, 0, 95), Decision.WAIT),
        ((100, 95, 0, 95), Decision.PARTIAL),
        ((100, 85, 10, 95), Decision.PARTIAL),
        ((100, 99, 0, None), Decision.WAIT),
        ((100, 100, 0, 95), Decision.ADVANCE),
        ((100, 75, 20, 95), Decision.FAIL),
        ((3, 2, 0, 67), Decision.WAIT),
        ((3, 2, 0, 66), Decision.PARTIAL),
    ],
)
def test_a_partial_result_is_due_at_the_threshold_and_never_with_the_last_answer(
    counts: tuple[int, int, int, int | None], decision: Decision
) -> None:
    assert decide(progress(*counts), SUFFICIENT) is decision


@given(any_progress(), st.floats(0, 1))
def test_every_choice_follows_the_rules_in_their_order(batch: Progress, rate: float) -> None:
    decision = decide(batch, rate)

    processed = batch.completed + batch.failed
    if batch.state is not WAITING:
        assert decision is Decision.NOTHING
    elif (processed >= 10 or processed == batch.total) and batch.completed / processed < rate:
        assert decision is Decision.FAIL
    elif processed == batch.total:
        assert decision is Decision.ADVANCE
    elif batch.partial_pct is not None and 100 * processed >= batch.partial_pct * batch.total:
        assert decision is Decision.PARTIAL
    else:
        assert decision is Decision.WAIT


@given(any_progress(), st.floats(0, 1))
def test_a_batch_that_waits_has_something_to_wait_for(batch: Progress, rate: float) -> None:
    if decide(batch, rate) in {Decision.WAIT, Decision.PARTIAL}:
        assert batch.processed < batch.total


@pytest.mark.parametrize(
    ("counts", "decision"),
    [
        ((100, 80, 0), Decision.ADVANCE),
        ((100, 79, 0), Decision.FAIL),
        ((100, 70, 10), Decision.ADVANCE),
        ((100, 70, 20), Decision.FAIL),
        ((10, 8, 0), Decision.ADVANCE),
        ((0, 0, 0), Decision.FAIL),
    ],
)
def test_at_the_deadline_a_batch_is_scored_from_enough_good_answers(
    counts: tuple[int, int, int], decision: Decision
) -> None:
    assert at_deadline(progress(*counts), SUFFICIENT) is decision


def test_nothing_is_scored_from_no_verdict_whatever_the_rate() -> None:
    assert at_deadline(progress(10, 0, 10), 0.0) is Decision.FAIL


@pytest.mark.parametrize("state", sorted(set(BatchStateEnum) - {WAITING}))
def test_only_a_batch_that_waits_for_answers_is_scored_at_its_deadline(state: BatchStateEnum) -> None:
    assert at_deadline(replace(progress(10, 10, 0), state=state), SUFFICIENT) is Decision.FAIL


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"planned": 1000}, StopReason.BUDGET_SPENT),
        ({"planned": 999}, StopReason.NO_PAIR_LEFT),
        ({"planned": 600}, StopReason.NO_PAIR_LEFT),
        ({"planned": 599}, None),
        ({"done": 5}, StopReason.MAX_ITERATIONS),
        ({"done": 4}, None),
        ({"score_change": 0.05}, None),
        ({"score_change": 0.049}, StopReason.SCORES_STABLE),
        ({"reliability": 0.89}, None),
        ({"reliability": 0.9}, StopReason.RELIABLE),
        ({"reliability": 0.99, "essays": 11}, None),
        ({"score_change": math.inf}, None),
        ({"done": 0, "planned": 0, "score_change": 0.0}, None),
        ({"done": 5, "planned": 1000, "score_change": 0.0}, StopReason.BUDGET_SPENT),
    ],
)
def test_a_batch_stops_for_the_first_reason_that_holds(changes: dict[str, float], reason: StopReason | None) -> None:
    assert why_stop(replace(GOING_ON, **changes), RULE) is reason  # type: ignore[arg-type]


def test_a_target_of_zero_stops_no_batch() -> None:
    assert why_stop(replace(GOING_ON, reliability=0.99), replace(RULE, reliability_target=0.0)) is None
