"""Why a batch is not done: what it waits for, what is the matter with us, and what happens next by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import TERMINAL, BatchStateEnum, Work
from cjtasks.steps import operate
from cjtasks.steps.explain import Explanation, explain
from cjtasks.steps.monitor import BEHIND
from cjtasks.steps.turn import Turn
from cjtasks.store import gate, inbox
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchState, OutboxEvent, ProcessedEssay
from tests.factories import NOW, batch_in, caught_up, comparisons, messages

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

WAITING = BatchStateEnum.WAITING_CALLBACKS
S = ComparisonStatus


def written(database: Database, state: BatchStateEnum, **columns: Any) -> int:
    with database.transaction() as session:
        caught_up(session, NOW)
        return batch_in(session, state, **columns).batch_id


def explained(runtime: Runtime, batch_id: int) -> Explanation:
    with runtime.database.transaction() as session:
        turn = Turn(session, runtime.settings, runtime.clock())
        return explain(turn, session.get_one(CJBatchState, batch_id))


def test_a_new_batch_waits_for_its_texts_and_tells_why_they_are_not_here(runtime: Runtime, database: Database) -> None:
    batch_id = written(database, BatchStateEnum.INITIALIZING)
    with database.transaction() as session:
        session.execute(update(ProcessedEssay).values(next_attempt_at=NOW))
        late = update(ProcessedEssay).where(ProcessedEssay.position > 0)
        session.execute(late.values(fetch_error="CONTENT_SERVICE_ERROR"))

    found = explained(runtime, batch_id)

    assert sorted(found.waits_for) == ["1 texts", "3 texts (last answer: CONTENT_SERVICE_ERROR)"]
    assert (found.state, found.next_step) == ("INITIALIZING", "a submitter fetches the missing texts")


SCORERS_WORK = {
    BatchStateEnum.GENERATING_PAIRS: "a scorer fits what was judged and stops or plans more comparisons",
    BatchStateEnum.SCORING: "a scorer writes the scores and the closing events",
}


@pytest.mark.parametrize("state", sorted(SCORERS_WORK))
def test_a_batch_between_two_steps_waits_for_a_scorer(
    runtime: Runtime, database: Database, clock: SettableClock, state: BatchStateEnum
) -> None:
    batch_id = written(database, state)

    found = explained(runtime, batch_id)
    assert (found.waits_for, found.next_step) == (["a scorer"], SCORERS_WORK[state])
    assert found.next_step_at == NOW.isoformat()

    clock.advance(2 * BEHIND)
    with database.transaction() as session:
        caught_up(session, clock())
    assert explained(runtime, batch_id).waits_for == ["a scorer: none has taken it for a minute, is one running?"]


def test_a_waiting_batch_tells_what_becomes_of_its_comparisons(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = written(database, WAITING, next_action=Work.CHECK, next_action_at=NOW + timedelta(minutes=30))
    with database.transaction() as session:
        state = session.get_one(CJBatchState, batch_id)
        comparisons(session, state, 4, S.COMPLETED)
        comparisons(session, state, 3, S.IN_FLIGHT)
        comparisons(session, state, 2, S.CLAIMED)
        comparisons(session, state, 1, S.PLANNED, refusals=2)
        comparisons(session, state, 1, S.PLANNED)
    clock.advance(timedelta(seconds=20))

    found = explained(runtime, batch_id)

    assert found.waits_for == [
        "3 answers; the oldest was asked for 20 s ago",
        "2 comparisons to be sent, 1 of them refused by the provider before",
        "2 comparisons that a submitter has in its hands",
    ]
    assert found.next_step == "a scorer asks again what was not answered in time"
    assert found.next_step_at == (NOW + timedelta(minutes=30)).isoformat()


def test_a_closed_gate_is_named_where_something_is_to_be_sent(runtime: Runtime, database: Database) -> None:
    sending, waiting = written(database, WAITING), written(database, WAITING)
    with database.transaction() as session:
        comparisons(session, session.get_one(CJBatchState, sending), 1, S.PLANNED)
        comparisons(session, session.get_one(CJBatchState, waiting), 1, S.IN_FLIGHT)
        gate.close(session, NOW, 600)
        until = gate.closed_until(session, NOW)
    assert until is not None

    told = f"the provider, which asked for a pause until {until.isoformat()}"
    assert told in explained(runtime, sending).waits_for
    assert told not in explained(runtime, waiting).waits_for


def test_our_own_inbox_is_named_where_it_is_what_waits(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = written(database, WAITING)
    with database.transaction() as session:
        inbox.write(session, Kind.CALLBACK, messages(b"an answer"))
    assert explained(runtime, batch_id).waits_for == []

    clock.advance(BEHIND + timedelta(seconds=1))

    assert explained(runtime, batch_id).waits_for == [
        "our own inbox: its oldest undone row came 61 s ago, is a worker running?"
    ]


def test_our_own_consumer_is_named_where_it_has_not_caught_up(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = written(database, WAITING)
    clock.advance(BEHIND + timedelta(seconds=1))

    assert explained(runtime, batch_id).waits_for == [
        "our own consumer: it has not caught up with the callback topic, so no deadline acts"
    ]


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_batch_that_has_ended_waits_for_nothing(
    runtime: Runtime, database: Database, clock: SettableClock, state: BatchStateEnum
) -> None:
    batch_id = written(database, state, stop_reason="a reason")
    clock.advance(timedelta(days=1))

    found = explained(runtime, batch_id)

    assert (found.state, found.stop_reason) == (state, "a reason")
    assert (found.waits_for, found.next_step, found.next_step_at) == ([], None, None)


def test_a_batch_that_has_ended_waits_until_its_events_are_published(runtime: Runtime, database: Database) -> None:
    batch_id = written(database, WAITING)
    operate.cancel(runtime, operate.Order(batch_id, "ada", "a test", 1))
    assert explained(runtime, batch_id).waits_for == ["the relay, to publish 1 events"]

    with database.transaction() as session:
        session.execute(update(OutboxEvent).values(published_at=NOW))

    assert explained(runtime, batch_id).waits_for == []
