from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cjtasks.store.models import CJBatchUpload

from .checker import check_everything, check_requests
from .events import check_shape, closing, read_events
from .platform import Platform, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@pytest.fixture(scope="module")
def running(start: Callable[[Setup], AbstractContextManager[Platform]]) -> Iterator[Platform]:
    with start(Setup(provider={"latency": 0.2, "jitter": 0.1})) as started:
        yield started


@pytest.mark.timeout(300)
def test_a_batch_that_is_asked_for_over_kafka_ends_in_three_events_of_the_platforms_shape(running: Platform) -> None:
    running.ask(1)
    running.wait_for(running.is_at_rest, "the batch ends", 180)
    (request,) = running.asked
    events = read_events(running.settings)
    with running.database.transaction() as session:
        job_id = str(session.scalars(select(CJBatchUpload.id)).one())

    assert {event.kind: event.key for event in closing(events)} == {
        "completed": request.batch_id,
        "result": job_id,
        "consumption": request.batch_id,
    }
    assert len(closing(events)) == 3
    for event in events:
        check_shape(event)
        assert event.headers == ()
        assert event.envelope["correlation_id"] == request.correlation_id
        assert event.envelope["metadata"] == {}
        assert event.data["entity_id"] == request.batch_id
    check_everything(running.database, events)
    check_requests(running.database, running.stats())


@pytest.mark.timeout(300)
def test_the_result_ranks_every_essay_of_the_request_once(running: Platform) -> None:
    running.ask(1)
    running.wait_for(running.is_at_rest, "the batch ends", 180)
    request = running.asked[-1]
    (result,) = (
        e for e in read_events(running.settings) if e.kind == "result" and e.data["batch_id"] == request.batch_id
    )
    ranked = result.data["essay_results"]
    assert {essay["essay_id"] for essay in ranked} == request.storage_ids.keys()
    assert [essay["rank"] for essay in ranked] == list(range(1, len(ranked) + 1))
    assert [essay["bt_score"] for essay in ranked] == sorted((e["bt_score"] for e in ranked), reverse=True)
