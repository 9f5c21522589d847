"""Ringing again for what is due in Postgres, whatever was lost elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import sweep
from cjtasks.store import inbox
from cjtasks.store.inbox import Kind
from cjtasks.store.locks import SingleFlight, alone
from cjtasks.store.models import InboxRow
from tests.factories import NOW, batch_in, comparisons, messages

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

LATER = timedelta(seconds=1)


def write(database: Database, count: int) -> None:
    with database.transaction() as session:
        for _ in range(count):
            inbox.write(session, Kind.CALLBACK, messages(b"an answer"))


def test_nothing_is_rung_where_nothing_is_due(runtime: Runtime, database: Database) -> None:
    with database.transaction() as session:
        batch_in(session, BatchStateEnum.SCORING, next_action_at=NOW + timedelta(minutes=1))
        batch_in(session, BatchStateEnum.COMPLETED)

    assert sweep.sweep(runtime) == []


def test_each_due_batch_is_rung_for_its_work_and_all_submissions_once(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    with database.transaction() as session:
        new = batch_in(session, BatchStateEnum.INITIALIZING).batch_id
        ready = batch_in(session, BatchStateEnum.SCORING).batch_id
        for _ in range(3):
            comparisons(session, batch_in(session, BatchStateEnum.WAITING_CALLBACKS), 2, ComparisonStatus.PLANNED)
    clock.advance(LATER)

    bells = sweep.sweep(runtime)

    assert sorted(bells, key=str) == sorted(
        [Bell(Work.PREPARE, new), Bell(Work.SCORE, ready), Bell(Work.SUBMIT)], key=str
    )


def test_what_became_due_a_moment_ago_was_rung_by_whoever_made_it_due(runtime: Runtime, database: Database) -> None:
    with database.transaction() as session:
        batch_in(session, BatchStateEnum.SCORING)
    write(database, 1)

    assert sweep.sweep(runtime) == []


def test_batches_that_wait_for_a_closed_gate_do_not_hide_other_work(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    with database.transaction() as session:
        for _ in range(sweep.BATCHES_A_SWEEP):
            batch_in(session, BatchStateEnum.WAITING_CALLBACKS, essays=0)
        ready = batch_in(session, BatchStateEnum.SCORING, next_action_at=NOW + LATER).batch_id
    clock.advance(2 * LATER)

    assert sorted(sweep.sweep(runtime), key=str) == sorted([Bell(Work.SCORE, ready), Bell(Work.SUBMIT)], key=str)


def test_undone_rows_get_as_many_bells_as_workers_can_use(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    write(database, 2 * inbox.ROWS_AT_ONCE + 1)
    clock.advance(LATER)

    assert sweep.sweep(runtime) == [Bell(Work.INBOX)] * 3

    write(database, inbox.ROWS_AT_ONCE * sweep.INBOX_BELLS_A_SWEEP)
    assert sweep.sweep(runtime) == [Bell(Work.INBOX)] * sweep.INBOX_BELLS_A_SWEEP


def test_one_sweep_at_a_time(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    write(database, 1)
    clock.advance(LATER)

    with database.transaction() as session:
        assert alone(session, SingleFlight.SWEEP)
        assert sweep.sweep(runtime) == []

    assert sweep.sweep(runtime) == [Bell(Work.INBOX)]


def test_only_done_rows_older_than_the_retention_are_cleaned(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    write(database, 3)
    with database.transaction() as session:
        for row in session.scalars(select(InboxRow).limit(2)):
            row.done_at = NOW

    clock.advance(timedelta(days=14))
    assert sweep.clean(runtime) == 0
    clock.advance(LATER)
    assert sweep.clean(runtime) == 2
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(InboxRow)) == 1
