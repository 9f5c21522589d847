"""The monitor at a deadline against a late answer and against an operator: the row lock lets one of them win."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.errors import OperationRefused
from cjtasks.steps import answers, monitor, operate
from cjtasks.steps.operate import Order
from tests.factories import batch_in, caught_up, comparisons, messages, success
from tests.integration.operating import events, lines, look

if TYPE_CHECKING:
    from collections.abc import Callable

    from cjtasks.runtime import Runtime
    from cjtasks.store.models import ComparisonPair
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

ROUNDS = 12
DEADLINE = timedelta(hours=4, seconds=1)
S = BatchStateEnum

ENDS = {9: (S.SCORING, S.GENERATING_PAIRS), 3: (S.FAILED, S.WAITING_CALLBACKS)}
"""How a batch with so many of ten answers stands if the monitor came first, and if one more answer did."""


def overdue(database: Database, clock: SettableClock, answered: int) -> tuple[int, ComparisonPair]:
    """Write a batch of ten comparisons past its deadline; return its id and a comparison that is still open."""
    with database.transaction() as session:
        state = batch_in(session, S.WAITING_CALLBACKS)
        comparisons(session, state, answered, ComparisonStatus.COMPLETED)
        pairs = comparisons(session, state, 10 - answered, ComparisonStatus.IN_FLIGHT)
    clock.advance(DEADLINE)
    with database.transaction() as session:
        caught_up(session, clock())
    return state.batch_id, pairs[0]


def at_once(*works: Callable[[], object]) -> list[object]:
    start = Barrier(len(works))

    def one(work: Callable[[], object]) -> object:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def record(runtime: Runtime, payload: bytes) -> None:
    with runtime.database.transaction() as session:
        answers.record(runtime, session, messages(payload))


@pytest.mark.parametrize("answered", ENDS, ids=["enough", "too few"])
def test_an_answer_and_the_monitor_at_once_count_the_answer_once_or_keep_it_as_late(
    runtime: Runtime, database: Database, clock: SettableClock, answered: int
) -> None:
    for _ in range(ROUNDS):
        batch_id, pair = overdue(database, clock, answered)

        at_once(partial(record, runtime, success(pair)), partial(monitor.monitor, runtime))

        row = look(database, batch_id)
        counted = row.completed_comparisons - answered
        assert row.state is ENDS[answered][counted]
        assert [event.kind for event in events(database, batch_id)] == ["failed"] * (row.state is S.FAILED)


def test_a_cancel_and_the_monitor_at_once_end_the_batch_once(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    for _ in range(ROUNDS):
        batch_id, _ = overdue(database, clock, 3)
        order = Order(batch_id, "ada", "it was asked for", look(database, batch_id).version)

        def cancel(order: Order = order) -> bool:
            try:
                operate.cancel(runtime, order)
            except OperationRefused:
                return False
            return True

        cancelled, _ = at_once(cancel, partial(monitor.monitor, runtime))

        row = look(database, batch_id)
        assert row.state is (S.CANCELLED if cancelled else S.FAILED)
        assert [event.kind for event in events(database, batch_id)] == ["failed"]
        assert len(lines(database)) == cancelled
        with database.transaction() as session:
            session.delete(session.get_one(type(row), batch_id).batch_upload)
