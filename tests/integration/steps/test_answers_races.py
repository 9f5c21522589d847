"""Answers that two workers record at once, or that meet somebody who deletes their batch."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, text

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.steps import answers
from cjtasks.store.models import CJBatchState, CJBatchUpload, DeadLetterRow
from tests.checks import assert_consistent
from tests.factories import batch_in, comparisons, messages, success

if TYPE_CHECKING:
    from cjtasks.domain.states import Bell
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database

WORKERS = 4


def record(runtime: Runtime, *payloads: bytes) -> list[Bell]:
    with runtime.database.transaction() as session:
        return answers.record(runtime, session, messages(*payloads))


def all_at_once(runtime: Runtime, groups: list[list[bytes]]) -> list[Bell]:
    start = Barrier(len(groups))

    def one(payloads: list[bytes]) -> list[Bell]:
        start.wait()
        return record(runtime, *payloads)

    with ThreadPoolExecutor(len(groups)) as pool:
        return [bell for bells in pool.map(one, groups) for bell in bells]


def test_a_duplicate_that_several_workers_record_at_once_counts_once(runtime: Runtime, database: Database) -> None:
    with database.transaction() as session:
        state = batch_in(session, BatchStateEnum.WAITING_CALLBACKS)
        pairs = comparisons(session, state, 12, ComparisonStatus.IN_FLIGHT)
    payloads = [success(pair) for pair in pairs]

    bells = all_at_once(runtime, [payloads] * WORKERS)

    assert len(bells) == 1, "only the worker whose answers completed the iteration rings"
    with database.transaction() as session:
        assert_consistent(session, state.batch_id)
        assert session.get_one(CJBatchState, state.batch_id).completed_comparisons == 12


def test_workers_with_answers_to_the_same_batches_in_opposite_orders_do_not_deadlock(
    runtime: Runtime, database: Database
) -> None:
    with database.transaction() as session:
        states = [batch_in(session, BatchStateEnum.WAITING_CALLBACKS) for _ in range(6)]
        pairs = [pair for state in states for pair in comparisons(session, state, 4, ComparisonStatus.IN_FLIGHT)]
    payloads = [success(pair) for pair in pairs]

    bells = all_at_once(runtime, [payloads[::2], payloads[1::2][::-1], payloads[::-1], payloads])

    assert len(bells) == len(states)
    with database.transaction() as session:
        for state in states:
            assert_consistent(session, state.batch_id)


def test_an_answer_to_a_batch_that_is_being_deleted_is_set_aside(runtime: Runtime, database: Database) -> None:
    with database.transaction() as session:
        gone, other = (batch_in(session, BatchStateEnum.WAITING_CALLBACKS) for _ in range(2))
        payloads = [success(comparisons(session, s, 2, ComparisonStatus.IN_FLIGHT)[0]) for s in (gone, other)]

    with ThreadPoolExecutor(1) as pool, database.transaction() as session:
        session.execute(delete(CJBatchUpload).where(CJBatchUpload.id == gone.batch_id))
        recorded = pool.submit(record, runtime, *payloads)
        _wait_until_somebody_waits_for_a_lock(database)
        session.commit()
        recorded.result()

    with database.transaction() as session:
        assert session.get_one(CJBatchState, other.batch_id).completed_comparisons == 1
        assert session.scalars(select(DeadLetterRow.reason)).all() == ["UNKNOWN_CORRELATION"]


def _wait_until_somebody_waits_for_a_lock(database: Database) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with database.engine.connect() as connection:
        while not connection.scalar(waiting):
            connection.rollback()
            time.sleep(0.01)
