"""Batches that operators act on: how they came to where they stand, and what is left of what was done to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.steps.operate import Order
from cjtasks.store.models import CJBatchState, OperatorAction, OutboxEvent
from tests.checks import assert_consistent
from tests.factories import batch_in, comparisons
from tests.integration.lifecycle import Which, Wish, World
from tests.integration.lifecycle_voices import Texts

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock


def world_of(runtime: Runtime, clock: SettableClock) -> World:
    texts = Texts()
    world = World(replace(runtime, content=texts), clock, texts)
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
    assert world.state(batch_id).state is BatchStateEnum.FAILED
    return batch_id


def written(database: Database, state: BatchStateEnum, **counts: int) -> int:
    """Write a batch of a state with so many comparisons of each status."""
    with database.transaction() as session:
        row = batch_in(session, state)
        for status, count in counts.items():
            comparisons(session, row, count, ComparisonStatus(status))
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
