"""Locking, claiming and moving the state row of a batch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import IllegalTransition
from cjtasks.store import batches
from cjtasks.store.models import CJBatchState
from tests.factories import NOW, batch_in

if TYPE_CHECKING:
    from datetime import datetime

    from cjtasks.store.batches import Claim
    from cjtasks.store.session import Database

LEASE = timedelta(minutes=2)
GENERATING = BatchStateEnum.GENERATING_PAIRS


def stored(database: Database, state: BatchStateEnum = GENERATING) -> int:
    with database.transaction() as session:
        return batch_in(session, state).batch_id


def claim(database: Database, bell: Bell, after: timedelta = timedelta()) -> Claim | None:
    with database.transaction() as session:
        return batches.claim(session, bell, NOW + after, LEASE)


def test_a_second_bell_finds_the_work_taken(database: Database) -> None:
    bell = Bell(Work.ADVANCE, stored(database))

    assert claim(database, bell) is not None
    assert claim(database, bell) is None


def test_work_whose_worker_is_gone_can_be_taken_when_its_lease_runs_out(database: Database) -> None:
    bell = Bell(Work.ADVANCE, stored(database))
    claim(database, bell)

    assert claim(database, bell, LEASE - timedelta(seconds=1)) is None
    assert claim(database, bell, LEASE) is not None


def test_a_bell_for_other_work_or_for_no_batch_takes_nothing(database: Database) -> None:
    batch_id = stored(database)

    for bell in (Bell(Work.SCORE, batch_id), Bell(Work.ADVANCE, batch_id + 1), Bell(Work.ADVANCE)):
        assert claim(database, bell) is None


@pytest.mark.parametrize("column", ["state", "current_iteration", "version"])
def test_a_slow_step_writes_nothing_when_its_batch_moved_on(database: Database, column: str) -> None:
    taken = claim(database, Bell(Work.ADVANCE, stored(database)))
    assert taken is not None
    with database.transaction() as session:
        state = session.get_one(CJBatchState, taken.batch_id)
        moved = {"state": BatchStateEnum.INITIALIZING, "current_iteration": 1, "version": 2}
        setattr(state, column, moved[column])

    with database.transaction() as session:
        assert batches.reclaim(session, taken) is None


def test_a_slow_step_gets_its_batch_back_as_it_was(database: Database) -> None:
    taken = claim(database, Bell(Work.ADVANCE, stored(database)))
    assert taken is not None

    with database.transaction() as session:
        assert batches.reclaim(session, taken) is not None


def test_a_move_says_what_is_due_raises_the_version_and_counts_as_activity(database: Database) -> None:
    later = NOW + timedelta(minutes=1)
    with database.transaction() as session:
        state = batch_in(session, BatchStateEnum.SCORING, version=7)

        assert batches.move(state, BatchStateEnum.COMPLETED, later) == []

        assert (state.next_action, state.next_action_at) == (None, None)
        assert (state.version, state.last_activity_at) == (8, later)


def test_an_illegal_move_changes_nothing(database: Database) -> None:
    with database.transaction() as session:
        state = batch_in(session, BatchStateEnum.COMPLETED)

        with pytest.raises(IllegalTransition):
            batches.move(state, BatchStateEnum.FAILED, NOW)

        assert (state.state, state.version) == (BatchStateEnum.COMPLETED, 1)


def test_a_lock_shows_the_row_as_it_is_now_and_not_as_it_was_read_before(database: Database) -> None:
    batch_id = stored(database)
    with database.transaction() as session:
        read_before = session.get_one(CJBatchState, batch_id)
        with database.transaction() as other:
            other.get_one(CJBatchState, batch_id).completed_comparisons = 3

        assert batches.lock(session, batch_id) is read_before
        assert read_before.completed_comparisons == 3


def test_locking_many_shows_each_row_as_it_is_now(database: Database) -> None:
    batch_id = stored(database)
    with database.transaction() as session:
        read_before = session.get_one(CJBatchState, batch_id)
        with database.transaction() as other:
            other.get_one(CJBatchState, batch_id).completed_comparisons = 3

        assert batches.lock_all(session, [batch_id]) == {batch_id: read_before}
        assert read_before.completed_comparisons == 3


def test_a_batch_that_was_deleted_cannot_be_locked(database: Database) -> None:
    with database.transaction() as session:
        assert batches.lock(session, 1) is None
        assert batches.lock_all(session, [1, 2]) == {}


@pytest.mark.parametrize(
    ("work", "minutes", "expected"),
    [
        (Work.SUBMIT, 30, (Work.SUBMIT, 5)),
        (Work.SUBMIT, 1, (Work.SUBMIT, 1)),
        (Work.CHECK, 1, (Work.SUBMIT, 5)),
        (Work.PARTIAL, 30, (Work.PARTIAL, 30)),
    ],
    ids=["a later submission", "a sooner submission", "a check", "a partial result"],
)
def test_a_submission_comes_forward_but_never_back_and_never_before_a_partial_result(
    database: Database, work: Work, minutes: int, expected: tuple[Work, int]
) -> None:
    def after(count: int) -> datetime:
        return NOW + timedelta(minutes=count)

    with database.transaction() as session:
        waiting = batch_in(
            session, BatchStateEnum.WAITING_CALLBACKS, next_action=work, next_action_at=after(minutes)
        ).batch_id
        ended = batch_in(session, BatchStateEnum.COMPLETED).batch_id
    with database.transaction() as session:
        batches.submit_no_later_than(session, {waiting: after(5), ended: after(5)})

    with database.transaction() as session:
        state = session.get_one(CJBatchState, waiting)
        assert (state.next_action, state.next_action_at) == (expected[0], after(expected[1]))
        assert session.get_one(CJBatchState, ended).next_action is None
