"""Deadlines: who is scored, who is failed, what is asked again, and that nothing happens while we are behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import monitor
from cjtasks.store import inbox
from cjtasks.store.inbox import Kind
from cjtasks.store.locks import SingleFlight, alone
from cjtasks.store.models import CJBatchState, ComparisonPair, OutboxEvent
from tests.checks import assert_consistent
from tests.factories import NOW, batch_in, caught_up, comparisons, messages

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

WAITING = BatchStateEnum.WAITING_CALLBACKS
S = ComparisonStatus
DEADLINE = timedelta(hours=4, seconds=1)
ANSWER_DEADLINE = timedelta(minutes=30)


def waiting(database: Database, completed: int, failed: int, still_open: int) -> int:
    with database.transaction() as session:
        state = batch_in(session, WAITING)
        comparisons(session, state, completed, S.COMPLETED)
        comparisons(session, state, failed, S.FAILED)
        comparisons(session, state, still_open, S.IN_FLIGHT)
        return state.batch_id


def pass_time(database: Database, clock: SettableClock, by: timedelta) -> None:
    """Let time pass while the consumer keeps saying that it has all answers."""
    clock.advance(by)
    with database.transaction() as session:
        caught_up(session, clock())


def look(database: Database, batch_id: int) -> CJBatchState:
    with database.transaction() as session:
        assert_consistent(session, batch_id)
        return session.get_one(CJBatchState, batch_id)


def events(database: Database) -> list[OutboxEvent]:
    with database.transaction() as session:
        return list(session.scalars(select(OutboxEvent)))


def test_a_batch_with_enough_answers_is_scored_at_its_deadline(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = waiting(database, 8, 0, 2)
    pass_time(database, clock, DEADLINE)

    assert monitor.monitor(runtime) == [Bell(Work.SCORE, batch_id)]

    state = look(database, batch_id)
    assert (state.state, state.stop_reason) == (BatchStateEnum.SCORING, "deadline")


def test_a_batch_with_too_few_answers_is_failed_with_one_event(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = waiting(database, 7, 0, 3)
    pass_time(database, clock, DEADLINE)

    assert [monitor.monitor(runtime), monitor.monitor(runtime)] == [[], []]

    state = look(database, batch_id)
    assert (state.state, state.stop_reason) == (BatchStateEnum.FAILED, "stuck_timeout_insufficient_progress")
    (event,) = events(database)
    assert b'"progress_pct": 70.0' in event.payload


def test_enough_answers_of_which_too_many_failed_are_not_scored(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = waiting(database, 6, 2, 1)
    pass_time(database, clock, DEADLINE)

    monitor.monitor(runtime)

    assert look(database, batch_id).state is BatchStateEnum.FAILED


@pytest.mark.parametrize(
    "state", [BatchStateEnum.INITIALIZING, BatchStateEnum.GENERATING_PAIRS, BatchStateEnum.SCORING]
)
def test_a_batch_that_hangs_in_any_other_state_is_failed(
    runtime: Runtime, database: Database, clock: SettableClock, state: BatchStateEnum
) -> None:
    with database.transaction() as session:
        batch_id = batch_in(session, state).batch_id
    pass_time(database, clock, DEADLINE)

    monitor.monitor(runtime)

    assert look(database, batch_id).state is BatchStateEnum.FAILED
    assert [event.kind for event in events(database)] == ["failed"]


def test_a_batch_with_activity_goes_on(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    batch_id = waiting(database, 1, 0, 9)
    pass_time(database, clock, timedelta(hours=4))

    assert monitor.monitor(runtime) == []
    assert look(database, batch_id).state is WAITING


def test_a_batch_that_has_ended_is_left_alone(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    with database.transaction() as session:
        batch_in(session, BatchStateEnum.COMPLETED)
        batch_in(session, BatchStateEnum.CANCELLED)
    pass_time(database, clock, DEADLINE)

    assert monitor.monitor(runtime) == []
    assert events(database) == []


def test_two_monitors_at_once_end_a_batch_once(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    batch_ids = [waiting(database, 8, 0, 2) for _ in range(3)]
    pass_time(database, clock, DEADLINE)
    start = Barrier(3)

    def run(_: int) -> list[Bell]:
        start.wait()
        return monitor.monitor(runtime)

    with ThreadPoolExecutor(3) as pool:
        bells = [bell for rung in pool.map(run, range(3)) for bell in rung]

    assert sorted(bell.batch_id or 0 for bell in bells) == batch_ids


def test_one_monitor_at_a_time(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    waiting(database, 8, 0, 2)
    pass_time(database, clock, DEADLINE)

    with database.transaction() as session:
        assert alone(session, SingleFlight.MONITOR)
        assert monitor.monitor(runtime) == []

    assert len(monitor.monitor(runtime)) == 1


def undone_row(database: Database, clock: SettableClock) -> None:
    with database.transaction() as session:
        caught_up(session, clock() + DEADLINE)
        inbox.write(
            session, Kind.CALLBACK, messages(b"an answer", received_at=clock() + DEADLINE - monitor.BEHIND * 1.1)
        )


def stale_partition(database: Database, clock: SettableClock) -> None:
    with database.transaction() as session:
        caught_up(session, clock() + DEADLINE)
        caught_up(session, clock() + DEADLINE - monitor.BEHIND * 1.1, partition=1)


def partition_that_never_caught_up(database: Database, clock: SettableClock) -> None:
    with database.transaction() as session:
        caught_up(session, clock() + DEADLINE)
        caught_up(session, None, partition=1)


def no_answers_read(database: Database, clock: SettableClock) -> None:
    with database.transaction() as session:
        caught_up(session, clock() + DEADLINE, topic="another-topic")


@pytest.mark.parametrize("behind", [undone_row, stale_partition, partition_that_never_caught_up, no_answers_read])
def test_no_deadline_acts_while_we_are_behind(
    runtime: Runtime, database: Database, clock: SettableClock, behind: object
) -> None:
    batch_id = waiting(database, 8, 0, 2)
    make_due(database, batch_id, clock() + ANSWER_DEADLINE)
    assert callable(behind)
    behind(database, clock)
    clock.advance(DEADLINE)

    assert monitor.monitor(runtime) == []
    assert monitor.check(runtime, Bell(Work.CHECK, batch_id)) == []

    state = look(database, batch_id)
    assert (state.state, open_rows(database, batch_id)) == (WAITING, {S.IN_FLIGHT})
    assert (state.next_action, state.next_action_at) == (Work.CHECK, clock() + monitor.BEHIND)


def test_what_only_just_came_in_is_not_behind(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    waiting(database, 8, 0, 2)
    clock.advance(DEADLINE)
    with database.transaction() as session:
        caught_up(session, clock() - monitor.BEHIND * 0.9)
        inbox.write(session, Kind.CALLBACK, messages(b"an answer", received_at=clock() - monitor.BEHIND * 0.9))

    assert len(monitor.monitor(runtime)) == 1


def make_due(database: Database, batch_id: int, when: datetime) -> None:
    with database.transaction() as session:
        state = session.get_one(CJBatchState, batch_id)
        state.next_action, state.next_action_at = Work.CHECK, when


def open_rows(database: Database, batch_id: int) -> set[S]:
    with database.transaction() as session:
        statuses = session.scalars(select(ComparisonPair.status).where(ComparisonPair.cj_batch_id == batch_id))
        return set(statuses) - {S.COMPLETED, S.FAILED}


def test_what_was_not_answered_in_time_is_asked_again(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = waiting(database, 8, 0, 2)
    make_due(database, batch_id, clock() + ANSWER_DEADLINE)
    pass_time(database, clock, ANSWER_DEADLINE)

    assert monitor.check(runtime, Bell(Work.CHECK, batch_id)) == [Bell(Work.SUBMIT)]

    state = look(database, batch_id)
    assert open_rows(database, batch_id) == {S.PLANNED}
    assert (state.next_action, state.next_action_at, state.failed_comparisons) == (Work.SUBMIT, clock(), 0)


def test_what_may_still_be_answered_is_left_alone(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    batch_id = waiting(database, 8, 0, 1)
    with database.transaction() as session:
        later = NOW + timedelta(minutes=5)
        comparisons(session, session.get_one(CJBatchState, batch_id), 1, S.IN_FLIGHT, submitted_at=later)
    make_due(database, batch_id, clock())
    pass_time(database, clock, ANSWER_DEADLINE)

    monitor.check(runtime, Bell(Work.CHECK, batch_id))

    look(database, batch_id)
    assert open_rows(database, batch_id) == {S.PLANNED, S.IN_FLIGHT}


def test_what_was_not_answered_three_times_has_failed(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = waiting(database, 8, 0, 0)
    with database.transaction() as session:
        comparisons(session, session.get_one(CJBatchState, batch_id), 2, S.IN_FLIGHT, attempt=3)
    make_due(database, batch_id, clock() + ANSWER_DEADLINE)
    pass_time(database, clock, ANSWER_DEADLINE)

    assert monitor.check(runtime, Bell(Work.CHECK, batch_id)) == [Bell(Work.ADVANCE, batch_id)]

    state = look(database, batch_id)
    assert (state.state, state.failed_comparisons) == (BatchStateEnum.GENERATING_PAIRS, 2)


def test_a_batch_is_looked_after_once_though_two_bells_ring(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = waiting(database, 8, 0, 2)
    make_due(database, batch_id, clock() + ANSWER_DEADLINE)
    pass_time(database, clock, ANSWER_DEADLINE)
    start = Barrier(3)

    def run(_: int) -> list[Bell]:
        start.wait()
        return monitor.check(runtime, Bell(Work.CHECK, batch_id))

    with ThreadPoolExecutor(3) as pool:
        assert sorted(len(bells) for bells in pool.map(run, range(3))) == [0, 0, 1]
