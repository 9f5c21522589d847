"""What operators do to batches: a batch is cancelled, and of two who act at once one is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from pydantic_core import from_json
from sqlalchemy import select

from cjtasks.domain.states import LIVE, TERMINAL, BatchStateEnum, Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.steps import operate
from cjtasks.steps.operate import Order
from cjtasks.store import batches
from cjtasks.store.models import ComparisonPair
from tests.checks import assert_valid
from tests.integration.lifecycle import Which, World
from tests.integration.operating import asked, events, lines, look, order, planned, world_of, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

WAITING = BatchStateEnum.WAITING_CALLBACKS


@pytest.fixture
def world(runtime: Runtime, clock: SettableClock) -> World:
    return world_of(runtime, clock)


@pytest.mark.parametrize("state", sorted(LIVE))
def test_a_live_batch_is_cancelled_with_one_event(runtime: Runtime, database: Database, state: BatchStateEnum) -> None:
    batch_id = written(database, state, completed=3, in_flight=2 if state is WAITING else 0)

    assert operate.cancel(runtime, order(database, batch_id)) == []

    row = look(database, batch_id)
    assert (row.state, row.next_action, row.stop_reason) == (BatchStateEnum.CANCELLED, None, "cancelled")
    (event,) = events(database, batch_id)
    assert event.kind == "failed"
    data = from_json(event.payload)["data"]
    assert (data["status"], data["cj_assessment_job_id"]) == ("cancelled", str(batch_id))
    assert data["system_metadata"]["error_info"]["reason"] == "cancelled"


def test_the_event_of_a_cancelled_batch_says_what_was_spent(world: World, database: Database) -> None:
    batch_id = asked(world)
    world.answer(Which(batch_id, "open", 3), ["better", "better", "hopeless"])

    operate.cancel(world.runtime, order(database, batch_id))

    spent = {"submitted_comparisons": 12, "completed_comparisons": 2, "failed_comparisons": 1, "total_tokens": 0}
    envelope = from_json(events(database, batch_id)[0].payload)
    found = envelope["data"]["system_metadata"]["error_info"]["details"]
    assert found == {**spent, "cost": pytest.approx(0.03)}
    assert lines(database) == [("cancel", "ada", "it was asked for", found)]


def test_the_event_of_a_cancelled_batch_is_valid_for_the_platform(world: World, database: Database) -> None:
    batch_id = asked(world)
    operate.cancel(world.runtime, order(database, batch_id))
    assert_valid("failed", from_json(events(database, batch_id)[0].payload))


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_batch_that_has_ended_is_not_cancelled(runtime: Runtime, database: Database, state: BatchStateEnum) -> None:
    batch_id = written(database, state, completed=3)
    with pytest.raises(OperationRefused, match=state):
        operate.cancel(runtime, order(database, batch_id))
    assert (events(database, batch_id), lines(database)) == ([], [])


def test_answers_after_the_cancellation_are_kept_and_change_no_counter(world: World, database: Database) -> None:
    batch_id = asked(world)
    world.answer(Which(batch_id, "open", 3), ["better"])
    operate.cancel(world.runtime, order(database, batch_id))
    before = operate._counts(look(database, batch_id))

    assert world.answer(Which(batch_id, "open", 100), ["better", "busy", "hopeless"]) == 9

    assert operate._counts(look(database, batch_id)) == before
    with database.transaction() as session:
        late = session.scalars(select(ComparisonPair.winner).where(ComparisonPair.late)).all()
    assert (len(late), sum(winner is not None for winner in late)) == (9, 3)


def test_nothing_more_is_asked_after_a_cancellation(world: World, database: Database) -> None:
    batch_id = planned(world)
    assert world.claim(5) == 5
    operate.cancel(world.runtime, order(database, batch_id))

    assert world.claim(100) == 0
    world.hear_provider(world.hands.pop(), ["accept", "refuse"])

    assert world.claim(100) == 0
    row = look(database, batch_id)
    assert (row.submitted_comparisons, row.failed_comparisons, row.next_action) == (3, 0, None)


def test_a_scorer_that_works_on_a_batch_meanwhile_writes_nothing(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    batch_id = written(database, BatchStateEnum.SCORING, completed=6)
    with database.transaction() as session:
        taken = batches.claim(session, Bell(Work.SCORE, batch_id), clock(), timedelta(minutes=5))
    assert taken is not None

    operate.cancel(runtime, order(database, batch_id))

    with database.transaction() as session:
        assert batches.reclaim(session, taken) is None


# --- two at once ---------------------------------------------------------------------------------------------------

ACTIONS: list[Callable[[Runtime, Order], object]] = [operate.cancel, operate.retry, operate.recount]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_on_a_batch_that_changed_since_it_was_looked_at_is_refused(
    runtime: Runtime, database: Database, action: Callable[[Runtime, Order], object]
) -> None:
    batch_id = written(database, WAITING, completed=10, failed=1, in_flight=1)
    looked = order(database, batch_id)
    operate.retry(runtime, order(database, batch_id, "grace"))

    with pytest.raises(OperationRefused, match="changed since you looked"):
        action(runtime, looked)

    assert [line[:2] for line in lines(database)] == [("retry", "grace")]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_on_no_batch_is_refused(runtime: Runtime, action: Callable[[Runtime, Order], object]) -> None:
    with pytest.raises(OperationRefused, match="no batch 404"):
        action(runtime, Order(404, "ada", "a slip", 1))


def test_of_two_operators_at_once_one_is_refused(runtime: Runtime, database: Database) -> None:
    batch_id = written(database, WAITING, completed=10, failed=1, in_flight=1)
    start = Barrier(2)

    def act(action: Callable[[Runtime, Order], object], looked: Order) -> bool:
        start.wait()
        try:
            action(runtime, looked)
        except OperationRefused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        looked = order(database, batch_id)
        done = list(pool.map(act, [operate.cancel, operate.retry], [looked, looked]))

    assert sorted(done) == [False, True]
    assert [line[0] for line in lines(database)] == [["retry", "cancel"][done[0]]]
