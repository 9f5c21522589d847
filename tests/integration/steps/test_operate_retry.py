"""Operators ask failed comparisons again, and count anew: nothing that was published changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.steps import operate
from cjtasks.store.models import CJBatchState, ComparisonPair, ScoreSnapshot
from tests.integration.lifecycle import Which, Wish, World
from tests.integration.operating import (
    asked,
    events,
    failed,
    late_answers,
    lines,
    look,
    order,
    outage,
    planned,
    silence,
    world_of,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

WAITING, FAILED = BatchStateEnum.WAITING_CALLBACKS, BatchStateEnum.FAILED
S = ComparisonStatus


@pytest.fixture
def world(runtime: Runtime, clock: SettableClock) -> World:
    return world_of(runtime, clock)


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
