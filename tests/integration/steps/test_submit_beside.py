"""What goes on beside each other while comparisons are sent: slow requests, other submitters, small batches."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from cjtasks import runtime as runtimes
from cjtasks.clients.llm_provider import CONNECTIONS
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import submit
from cjtasks.store import batches
from cjtasks.store.models import ComparisonPair
from tests.checks import assert_consistent
from tests.factories import batch_in, comparisons
from tests.integration.clients.told_service import Answer, Service, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database

S = ComparisonStatus
PATIENCE = 20.0


class Desk:
    """A provider that takes every comparison, the first `held` ones only once it is let go."""

    def __init__(self, held: int = 0) -> None:
        self._held = threading.Semaphore(held)
        self.let_go = threading.Event()

    def __call__(self, _: Service) -> Answer:
        if self._held.acquire(blocking=False):
            self.let_go.wait(PATIENCE)
        return Answer(202, json.dumps({"queue_id": str(uuid4())}).encode())


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as told:
        yield told


@pytest.fixture
def asking(runtime: Runtime, service: Service) -> Iterator[Runtime]:
    """Give a runtime that asks the service, with a clock that stands still."""
    settings = runtime.settings.model_copy(
        update={"LLM_PROVIDER_SERVICE_URL": service.url, "MAX_CONCURRENT_COMPARISONS": 10_000}
    )
    chosen = runtimes.build(settings, runtime.clock)
    yield chosen
    chosen.database.close()


def planned(database: Database, number: int) -> int:
    with database.transaction() as session:
        state = batch_in(session, BatchStateEnum.WAITING_CALLBACKS, essays=12)
        comparisons(session, state, number, S.PLANNED)
        return state.batch_id


def statuses(database: Database, batch_id: int) -> Counter[S]:
    with database.transaction() as session:
        rows = session.execute(
            select(ComparisonPair.status, func.count())
            .where(ComparisonPair.cj_batch_id == batch_id)
            .group_by(ComparisonPair.status)
        )
        return Counter(dict(rows.all()))


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def submitting(asking: Runtime) -> Iterator[None]:
    """Submit beside the block, and wait for the end of it after the block."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(submit.submit, asking)
        yield
        assert done.result(PATIENCE) == []


def test_as_many_requests_wait_for_a_slow_provider_as_there_are_connections(
    asking: Runtime, service: Service, database: Database
) -> None:
    all_here = threading.Barrier(CONNECTIONS)

    def take_when_all_are_here(_: Service) -> Answer:
        all_here.wait(PATIENCE)
        return Answer(202, b'{"queue_id": "q"}')

    service.told = take_when_all_are_here
    batch_id = planned(database, 2 * CONNECTIONS)

    assert submit.submit(asking) == []

    assert statuses(database, batch_id) == {S.IN_FLIGHT: 2 * CONNECTIONS}


def test_a_request_that_hangs_holds_up_neither_the_record_of_the_others_nor_the_next_load(
    asking: Runtime, service: Service, database: Database
) -> None:
    service.told = desk = Desk(held=1)
    number = 3 * submit.LOAD
    batch_id = planned(database, number)

    with submitting(asking):
        wait_until(lambda: statuses(database, batch_id) == {S.CLAIMED: 1, S.IN_FLIGHT: number - 1})
        desk.let_go.set()

    assert statuses(database, batch_id) == {S.IN_FLIGHT: number}
    with database.transaction() as session:
        assert_consistent(session, batch_id)


def test_a_batch_that_comes_while_a_large_one_is_sent_waits_for_no_more_than_is_in_the_air(
    asking: Runtime, service: Service, database: Database
) -> None:
    service.told = desk = Desk(held=CONNECTIONS)
    large = planned(database, 1000)

    with submitting(asking):
        wait_until(lambda: len(service.bodies) == CONNECTIONS)
        small = planned(database, 20)
        desk.let_go.set()

    asked = [json.loads(body)["metadata"]["cj_batch_id"] for body in service.bodies]
    last = max(number for number, batch_id in enumerate(asked) if batch_id == str(small))
    assert asked.count(str(small)) == 20
    # What was claimed before is in the air, then comes its load; requests overtake each other by their connections.
    assert last < submit.AT_ONCE + submit.LOAD + CONNECTIONS
    assert statuses(database, large) == {S.IN_FLIGHT: 1000}


def test_a_submitter_that_finds_every_due_batch_locked_looks_again(
    asking: Runtime, service: Service, database: Database
) -> None:
    service.told = Desk()
    batch_id, looks = planned(database, 5), list[datetime]()

    def clock() -> datetime:
        looks.append(asking.clock())
        return looks[-1]

    with ExitStack() as locked:
        batches.lock(locked.enter_context(database.transaction()), batch_id)
        with submitting(replace(asking, clock=clock)):
            wait_until(lambda: len(looks) > 40)
            locked.close()

    assert statuses(database, batch_id) == {S.IN_FLIGHT: 5}


def test_nothing_new_is_sent_once_the_time_of_the_task_is_up(
    asking: Runtime, service: Service, database: Database
) -> None:
    clock: Any = asking.clock

    def take_until_the_time_is_up(told: Service) -> Answer:
        clock.advance(timedelta(seconds=1) if len(told.bodies) == 1 else submit.LONGEST)
        return Answer(202, b'{"queue_id": "q"}')

    service.told = take_until_the_time_is_up
    batch_id = planned(database, 1000)

    bells = submit.submit(asking)

    assert [bell.work for bell in bells] == [Work.SUBMIT]
    assert len(service.bodies) <= CONNECTIONS + 2
    found = statuses(database, batch_id)
    assert found == {S.IN_FLIGHT: len(service.bodies), S.PLANNED: 1000 - len(service.bodies)}


@pytest.mark.parametrize("texts_are_due", [True, False])
def test_a_submitter_makes_way_after_its_turn_only_while_texts_wait_to_be_fetched(
    asking: Runtime, service: Service, database: Database, texts_are_due: bool
) -> None:
    clock: Any = asking.clock

    def take_until_the_turn_is_over(told: Service) -> Answer:
        if len(told.bodies) == 1:
            clock.advance(submit.TURN)
        return Answer(202, b'{"queue_id": "q"}')

    service.told = take_until_the_turn_is_over
    batch_id = planned(database, 500)
    if texts_are_due:
        with database.transaction() as session:
            batch_in(session, BatchStateEnum.INITIALIZING)

    bells = submit.submit(asking)

    sent = statuses(database, batch_id)[S.IN_FLIGHT]
    if texts_are_due:
        assert bells == [Bell(Work.SUBMIT)]
        assert sent <= submit.AT_ONCE
    else:
        assert (bells, sent) == ([], 500)
