"""What each kind of answer does to its comparison and its batch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import answers
from cjtasks.store.models import CJBatchState, ComparisonPair, DeadLetterRow, OutboxEvent
from tests.checks import assert_consistent, counted, counters_of
from tests.factories import NOW, batch_in, comparisons, failure, messages, success

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

WAITING = BatchStateEnum.WAITING_CALLBACKS
S = ComparisonStatus


def record(runtime: Runtime, *payloads: bytes) -> list[Bell]:
    with runtime.database.transaction() as session:
        return answers.record(runtime, session, messages(*payloads))


def asked(runtime: Runtime, count: int = 1, status: S = S.IN_FLIGHT) -> list[ComparisonPair]:
    """Store a waiting batch with these comparisons and one more that stays open."""
    with runtime.database.transaction() as session:
        state = batch_in(session, WAITING)
        comparisons(session, state, 1, S.IN_FLIGHT)
        return comparisons(session, state, count, status)


def look(database: Database, pair: ComparisonPair) -> tuple[CJBatchState, ComparisonPair]:
    """Read a comparison and the state of its batch again, and check that they agree."""
    with database.transaction() as session:
        assert_consistent(session, pair.cj_batch_id)
        return session.get_one(CJBatchState, pair.cj_batch_id), session.get_one(ComparisonPair, pair.id)


def test_a_verdict_is_stored_and_counted(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    (pair,) = asked(runtime)
    clock.advance(timedelta(seconds=5))

    assert record(runtime, success(pair, "Essay B", confidence=3.5)) == []

    state, row = look(database, pair)
    assert (row.status, row.winner, row.confidence, row.late) == (S.COMPLETED, "essay_b", 3.5, False)
    assert row.completed_at == state.last_activity_at == NOW + timedelta(seconds=5)
    assert state.completed_comparisons == 1


@pytest.mark.parametrize("apart", [True, False], ids=["each alone", "together"])
def test_the_first_answer_wins(runtime: Runtime, database: Database, apart: bool) -> None:
    (pair,) = asked(runtime)
    answer, other = success(pair, "Essay A"), success(pair, "Essay B")
    received = [answer, other, answer, failure(pair, "QUOTA_EXCEEDED")]

    for group in [[one] for one in received] if apart else [received]:
        record(runtime, *group)

    state, row = look(database, pair)
    assert (row.winner, row.error_code) == ("essay_a", None)
    assert (state.completed_comparisons, state.failed_comparisons) == (1, 0)


def test_a_verdict_after_a_final_failure_changes_nothing(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)

    record(runtime, failure(pair, "INVALID_API_KEY"))
    record(runtime, success(pair))

    state, row = look(database, pair)
    assert (row.status, row.winner) == (S.FAILED, None)
    assert (state.completed_comparisons, state.failed_comparisons) == (0, 1)


def test_an_error_is_asked_again_after_a_pause(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)

    record(runtime, failure(pair, "RATE_LIMIT"))

    state, row = look(database, pair)
    assert (row.status, row.attempt, row.error_code) == (S.PLANNED, 1, "RATE_LIMIT")
    assert timedelta(seconds=4) <= row.next_attempt_at - NOW <= timedelta(seconds=5)
    assert (state.next_action, state.failed_comparisons) == (Work.SUBMIT, 0)


def test_an_error_answer_brings_the_next_submission_forward(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)
    with database.transaction() as session:
        state = session.get_one(CJBatchState, pair.cj_batch_id)
        state.next_action, state.next_action_at = Work.CHECK, NOW + timedelta(minutes=30)

    record(runtime, failure(pair))

    state, row = look(database, pair)
    assert (state.next_action, state.next_action_at) == (Work.SUBMIT, row.next_attempt_at)


def test_the_third_error_fails_the_comparison(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)
    with database.transaction() as session:
        session.get_one(ComparisonPair, pair.id).attempt = 3

    record(runtime, failure(pair, "RATE_LIMIT"))

    state, row = look(database, pair)
    assert (row.status, row.completed_at, state.failed_comparisons) == (S.FAILED, NOW, 1)


def test_an_error_of_an_earlier_request_is_stale(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)

    record(runtime, failure(pair, "QUOTA_EXCEEDED", request_id="the-one-before"))

    state, row = look(database, pair)
    assert (row.status, row.last_error_request_id, state.failed_comparisons) == (S.IN_FLIGHT, None, 0)


def test_the_same_error_twice_asks_again_once(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)

    record(runtime, failure(pair), failure(pair))
    record(runtime, failure(pair))

    _, row = look(database, pair)
    assert (row.status, row.attempt) == (S.PLANNED, 1)


def test_a_verdict_that_comes_before_the_202_is_recorded_and_counts_as_submitted(
    runtime: Runtime, database: Database
) -> None:
    (pair,) = asked(runtime, status=S.CLAIMED)

    record(runtime, success(pair))

    state, row = look(database, pair)
    assert (row.status, row.submitted_at) == (S.COMPLETED, NOW)
    assert (state.submitted_comparisons, state.completed_comparisons) == (2, 1)


def test_an_error_that_comes_before_the_202_is_held_on_the_row(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    (pair,) = asked(runtime, status=S.CLAIMED)
    clock.advance(timedelta(seconds=1))

    record(runtime, failure(pair, "RATE_LIMIT", request_id="queue-7"))

    state, row = look(database, pair)
    assert (row.status, row.last_error_request_id, row.error_code) == (S.CLAIMED, "queue-7", "RATE_LIMIT")
    assert (state.submitted_comparisons, state.failed_comparisons) == (2, 0)
    assert state.last_activity_at == clock(), "the provider has accepted it for the first time"


def test_a_verdict_after_a_held_error_counts(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime, status=S.CLAIMED)

    record(runtime, failure(pair, request_id="queue-7"), success(pair))

    state, row = look(database, pair)
    assert (row.status, row.error_code, state.completed_comparisons) == (S.COMPLETED, None, 1)


def test_the_last_answer_of_an_iteration_rings_for_the_next_step(runtime: Runtime, database: Database) -> None:
    with database.transaction() as session:
        pairs = comparisons(session, batch_in(session, WAITING), 3, S.IN_FLIGHT)
    batch_id = pairs[0].cj_batch_id

    assert record(runtime, *(success(pair) for pair in pairs)) == [Bell(Work.ADVANCE, batch_id)]

    state, _ = look(database, pairs[0])
    assert (state.state, state.next_action, state.version) == (BatchStateEnum.GENERATING_PAIRS, Work.ADVANCE, 2)


def test_too_many_failures_end_the_batch_with_one_event(runtime: Runtime, database: Database) -> None:
    pairs = asked(runtime, 10)

    bells = record(runtime, *(failure(pair, "QUOTA_EXCEEDED") for pair in pairs), success(pairs[0]))

    state, _ = look(database, pairs[0])
    assert (bells, state.state, state.stop_reason) == ([], BatchStateEnum.FAILED, "low_success_rate")
    with database.transaction() as session:
        assert session.scalars(select(OutboxEvent.kind)).all() == ["failed"]


@pytest.mark.parametrize("state", [BatchStateEnum.SCORING, BatchStateEnum.COMPLETED, BatchStateEnum.FAILED])
def test_an_answer_to_a_batch_that_has_moved_on_is_kept_as_late(
    runtime: Runtime, database: Database, state: BatchStateEnum
) -> None:
    with database.transaction() as session:
        batch = batch_in(session, state)
        pairs = comparisons(session, batch, 3, S.IN_FLIGHT)
        before = counters_of(batch)

    record(runtime, success(pairs[0]), failure(pairs[1], "RATE_LIMIT"))
    record(runtime, success(pairs[0], "Essay B"))

    with database.transaction() as session:
        after = session.get_one(CJBatchState, batch.batch_id)
        rows = session.scalars(select(ComparisonPair).order_by(ComparisonPair.ordinal)).all()
        assert counters_of(after) == before == counted(rows)
        assert (after.state, after.version) == (state, 1)
        assert [(row.status, row.late) for row in rows] == [(S.COMPLETED, True), (S.FAILED, True), (S.IN_FLIGHT, False)]
        assert rows[0].winner == "essay_a"


def test_what_cannot_be_used_is_set_aside_and_its_neighbours_are_recorded(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)
    stranger = ComparisonPair(request_correlation_id=pair.request_correlation_id, request_id="r")
    stranger.request_correlation_id = type(pair.request_correlation_id)(int=5)

    record(runtime, b"no json", success(stranger), success(pair))

    state, _ = look(database, pair)
    assert state.completed_comparisons == 1
    with database.transaction() as session:
        letters = session.scalars(select(DeadLetterRow).order_by(DeadLetterRow.offset)).all()
        assert [(one.reason, one.offset) for one in letters] == [("UNREADABLE_CALLBACK", 0), ("UNKNOWN_CORRELATION", 1)]
        assert letters[0].payload == b"no json"
        assert "CJ_CALLBACK_CORRELATION_FAILED" in letters[1].detail


def test_the_correlation_id_decides_whatever_the_echo_says(runtime: Runtime, database: Database) -> None:
    first, second = asked(runtime, 2)
    echo = {"essay_a_id": second.essay_a_els_id, "essay_b_id": second.essay_b_els_id, "cj_batch_id": "999"}

    record(runtime, success(first, request_metadata=echo))

    assert look(database, first)[1].status is S.COMPLETED
    assert look(database, second)[1].status is S.IN_FLIGHT


def test_values_at_the_edge_are_stored(runtime: Runtime, database: Database) -> None:
    (pair,) = asked(runtime)
    extreme = success(pair, justification="a\x00b", response_time_ms=10**30)

    record(runtime, extreme.replace(b'"cost_estimate":0.01', b'"cost_estimate":Infinity'))

    _, row = look(database, pair)
    assert (row.justification, row.cost, row.response_time_ms) == ("ab", None, 2**63 - 1)
