"""What operators do to batches: cancel, retry and recount, each once, with a line that says who and why."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import from_json
from sqlalchemy import select, update

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import LIVE, TERMINAL, BatchStateEnum, Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.steps import operate
from cjtasks.steps.operate import Order
from cjtasks.store import batches
from cjtasks.store.models import CJBatchState, ComparisonPair, OperatorAction, OutboxEvent, ScoreSnapshot
from tests.checks import assert_consistent, assert_valid
from tests.factories import batch_in, comparisons
from tests.integration.lifecycle import Which, Wish, World
from tests.integration.lifecycle_voices import Texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

WAITING, FAILED = BatchStateEnum.WAITING_CALLBACKS, BatchStateEnum.FAILED
S = ComparisonStatus


@pytest.fixture
def world(runtime: Runtime, clock: SettableClock) -> World:
    world = World(replace(runtime, content=Texts()), clock, Texts())
    world.catch_up()
    return world


def planned(world: World, essays: int = 4) -> int:
    """Open a batch and plan its first iteration; return its id."""
    world.open(Wish(["here"] * essays))
    world.ring()
    return world.batches[-1]


def asked(world: World, essays: int = 4) -> int:
    batch_id = planned(world, essays)
    world.claim(100)
    world.hear_provider(world.hands.pop(), ["accept"])
    return batch_id


def failed(world: World) -> int:
    """Let every second of twelve comparisons fail until the batch does: ten answers, two of them missing."""
    batch_id = asked(world)
    world.answer(Which(batch_id, "open", 10), ["better", "hopeless"])
    assert world.state(batch_id).state is FAILED
    return batch_id


def written(database: Database, state: BatchStateEnum, **counts: int) -> int:
    """Write a batch of a state with so many comparisons of each status."""
    with database.transaction() as session:
        row = batch_in(session, state)
        for status, count in counts.items():
            comparisons(session, row, count, S(status))
        return row.batch_id


def order(database: Database, batch_id: int, operator: str = "ada") -> Order:
    with database.transaction() as session:
        return Order(batch_id, operator, "it was asked for", session.get_one(CJBatchState, batch_id).version)


def look(database: Database, batch_id: int) -> CJBatchState:
    with database.transaction() as session:
        assert_consistent(session, batch_id)
        return session.get_one(CJBatchState, batch_id)


def events(database: Database, batch_id: int) -> list[OutboxEvent]:
    with database.transaction() as session:
        rows = select(OutboxEvent).where(OutboxEvent.batch_id == batch_id).order_by(OutboxEvent.id)
        return list(session.scalars(rows))


def lines(database: Database) -> list[tuple[str, str, str, dict[str, Any]]]:
    with database.transaction() as session:
        rows = session.scalars(select(OperatorAction).order_by(OperatorAction.id)).all()
    return [(row.action, row.operator, row.reason, row.details) for row in rows]


# --- cancel --------------------------------------------------------------------------------------------------------


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


# --- retry ---------------------------------------------------------------------------------------------------------


def test_the_failed_comparisons_of_a_waiting_batch_are_asked_again(runtime: Runtime, database: Database) -> None:
    batch_id = written(database, WAITING, completed=10, failed=2, in_flight=1)

    assert operate.retry(runtime, order(database, batch_id)) == [Bell(Work.SUBMIT)]

    row = look(database, batch_id)
    assert (row.state, row.completed_comparisons, row.failed_comparisons) == (WAITING, 10, 0)
    assert (row.result_version, row.next_action) == (1, Work.SUBMIT)
    assert lines(database) == [("retry", "ada", "it was asked for", {"comparisons": 2, "result_version": 1})]
    with database.transaction() as session:
        again = session.scalars(select(ComparisonPair).where(ComparisonPair.status == S.PLANNED)).all()
    assert [(pair.attempt, pair.error_code, pair.completed_at) for pair in again] == [(0, None, None)] * 2


def test_a_first_ranking_that_is_due_is_not_lost_by_a_retry(world: World, database: Database) -> None:
    world.open(Wish(["here"] * 4, threshold=0.5))
    world.ring()
    batch_id = world.batches[-1]
    world.claim(100)
    world.hear_provider(world.hands.pop(), ["accept"])
    world.answer(Which(batch_id, "open", 6), ["better"] * 5 + ["hopeless"])
    assert world.state(batch_id).next_action is Work.PARTIAL
    world.bells.clear()

    world.did(operate.retry(world.runtime, order(database, batch_id)))
    world.all_goes_well()

    assert [event.kind for event in events(database, batch_id)] == ["partial", "completed", "result", "consumption"]


@pytest.mark.parametrize("state", sorted(set(BatchStateEnum) - operate.RETRYABLE))
def test_only_a_waiting_or_a_failed_batch_is_retried(
    runtime: Runtime, database: Database, state: BatchStateEnum
) -> None:
    batch_id = written(database, state, completed=10, failed=2)
    with pytest.raises(OperationRefused, match=f"is {state}"):
        operate.retry(runtime, order(database, batch_id))
    assert lines(database) == []


def test_a_waiting_batch_without_a_failed_comparison_is_not_retried(runtime: Runtime, database: Database) -> None:
    batch_id = written(database, WAITING, completed=1, in_flight=1)
    with pytest.raises(OperationRefused, match="no failed comparison"):
        operate.retry(runtime, order(database, batch_id))


def test_a_batch_that_failed_before_it_had_a_comparison_is_not_retried(runtime: Runtime, database: Database) -> None:
    batch_id = written(database, FAILED)
    with pytest.raises(OperationRefused, match="before it had a comparison"):
        operate.retry(runtime, order(database, batch_id))


def test_a_retried_batch_completes_with_a_second_version_of_its_result(world: World, database: Database) -> None:
    batch_id = failed(world)
    (first,) = events(database, batch_id)

    assert operate.retry(world.runtime, order(database, batch_id)) == [Bell(Work.SUBMIT)]
    row = look(database, batch_id)
    assert (row.state, row.result_version, row.stop_reason) == (WAITING, 2, None)
    world.all_goes_well()

    row = look(database, batch_id)
    assert (row.state, row.completed_comparisons) == (BatchStateEnum.COMPLETED, 12)
    published = events(database, batch_id)
    assert [(one.kind, one.version) for one in published] == [
        ("failed", 1),
        ("completed", 2),
        ("result", 2),
        ("consumption", 2),
    ]
    assert published[0].payload == first.payload
    with database.transaction() as session:
        finals = session.scalars(select(ScoreSnapshot.version).where(ScoreSnapshot.kind == "final")).all()
    assert finals == [2]


def test_answers_that_came_while_a_batch_was_failed_count_after_a_retry(world: World, database: Database) -> None:
    batch_id = failed(world)
    world.answer(Which(batch_id, "open", 100), ["better"])
    assert look(database, batch_id).completed_comparisons == 5

    operate.retry(world.runtime, order(database, batch_id))

    row = look(database, batch_id)
    assert (row.completed_comparisons, row.failed_comparisons) == (7, 0)


def outage(world: World) -> int:
    """Let a batch fail at its deadline because its comparisons were never taken."""
    batch_id = planned(world)
    world.pass_time(timedelta(hours=4, seconds=1))
    world.monitor()
    return batch_id


def silence(world: World) -> int:
    """Let a batch fail at its deadline with half of its answers."""
    batch_id = asked(world)
    world.answer(Which(batch_id, "open", 6), ["better"])
    world.pass_time(timedelta(hours=4, seconds=1))
    world.monitor()
    return batch_id


def late_answers(world: World) -> int:
    """Let a batch fail at its deadline, and all of its answers come after that."""
    batch_id = silence(world)
    world.answer(Which(batch_id, "open", 100), ["better"])
    return batch_id


@pytest.mark.parametrize("story", [outage, silence, late_answers])
def test_a_batch_that_failed_at_its_deadline_goes_on_where_it_stood(
    world: World, database: Database, story: Callable[[World], int]
) -> None:
    batch_id = story(world)
    assert world.state(batch_id).state is FAILED

    world.did(operate.retry(world.runtime, order(database, batch_id)))
    look(database, batch_id)
    world.all_goes_well()

    row = look(database, batch_id)
    assert (row.state, row.completed_comparisons, row.result_version) == (BatchStateEnum.COMPLETED, 12, 2)


def test_a_retried_batch_can_fail_and_be_retried_again(world: World, database: Database) -> None:
    batch_id = failed(world)
    operate.retry(world.runtime, order(database, batch_id))
    world.claim(100)
    world.hear_provider(world.hands.pop(), ["reject"])
    assert look(database, batch_id).state is FAILED

    operate.retry(world.runtime, order(database, batch_id))
    world.all_goes_well()

    assert look(database, batch_id).state is BatchStateEnum.COMPLETED
    assert [(one.kind, one.version) for one in events(database, batch_id)][:3] == [
        ("failed", 1),
        ("failed", 2),
        ("completed", 3),
    ]


# --- recount -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", [planned, asked, failed, outage, silence, late_answers])
def test_a_recount_finds_no_difference(world: World, database: Database, story: Callable[[World], int]) -> None:
    batch_id = story(world)
    version = world.state(batch_id).version

    before, after = operate.recount(world.runtime, order(database, batch_id))

    assert before == after
    assert (world.state(batch_id).version, lines(database)) == (version, [])


def broken(database: Database, batch_id: int, **counters: int) -> None:
    with database.transaction() as session:
        session.execute(update(CJBatchState).where(CJBatchState.batch_id == batch_id).values(**counters))


@pytest.mark.parametrize("counter", ["total", "submitted", "completed", "failed"])
def test_a_recount_mends_a_wrong_counter_and_says_so(runtime: Runtime, database: Database, counter: str) -> None:
    batch_id = written(database, WAITING, planned=2, in_flight=3, completed=20, failed=1)
    broken(database, batch_id, **{f"{counter}_comparisons": 25})

    before, after = operate.recount(runtime, order(database, batch_id))

    assert (getattr(before, counter), after) == (25, operate.Counts(total=26, submitted=24, completed=20, failed=1))
    assert operate._counts(look(database, batch_id)) == after
    ((action, *_, details),) = lines(database)
    assert (action, details["before"][counter], details["after"][counter]) == ("recount", 25, getattr(after, counter))


def test_a_batch_that_waited_because_it_was_counted_wrongly_goes_on(world: World, database: Database) -> None:
    batch_id = asked(world)
    broken(database, batch_id, completed_comparisons=-1)
    world.answer(Which(batch_id, "open", 100), ["better"])
    assert world.state(batch_id).state is WAITING

    operate.recount(world.runtime, order(database, batch_id))

    assert look(database, batch_id).state is BatchStateEnum.GENERATING_PAIRS
