"""Events are written once for each subject, kind and version, and never change afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import pytest
from sqlalchemy import select

from cjtasks.contracts import results
from cjtasks.contracts.results import EventContext
from cjtasks.store import outbox
from cjtasks.store.models import OutboxEvent
from cjtasks.store.outbox import Addressed
from tests.checks import assert_valid
from tests.factories import NOW

if TYPE_CHECKING:
    from cjtasks.store.session import Database

CONTEXT = EventContext(
    entity_id="batch-1",
    entity_type="batch",
    parent_id=None,
    correlation_id=UUID("d542046d-482f-4b55-9291-fb2722fe189b"),
    job_id="42",
    now=NOW,
    started_at=NOW - timedelta(minutes=1),
)
LATER = replace(CONTEXT, now=NOW + timedelta(hours=1))
OTHER = replace(CONTEXT, correlation_id=UUID(int=9))
TO = Addressed("failed-events", None)


def put(database: Database, context: EventContext, to: Addressed = TO, reason: str = "first") -> bool:
    with database.transaction() as session:
        return outbox.put(session, results.failed(context, {"reason": reason}), context, to)


def rows(database: Database) -> list[OutboxEvent]:
    with database.transaction() as session:
        return list(session.scalars(select(OutboxEvent).order_by(OutboxEvent.id)))


def test_the_same_event_is_written_once_and_keeps_its_first_bytes(database: Database) -> None:
    assert put(database, CONTEXT)
    before = rows(database)[0].payload

    assert not put(database, LATER, reason="second")

    (row,) = rows(database)
    assert row.payload == before
    assert b"first" in row.payload


def test_another_version_or_another_request_is_another_event(database: Database) -> None:
    assert put(database, CONTEXT)
    assert put(database, CONTEXT, replace(TO, version=2))
    assert put(database, OTHER)

    assert len({row.event_id for row in rows(database)}) == 3


def test_another_kind_is_another_event(database: Database) -> None:
    put(database, CONTEXT)
    with database.transaction() as session:
        usage = results.consumption(CONTEXT, results.Usage("teacher-1", None, 3))
        assert outbox.put(session, usage, CONTEXT, TO)

    assert [row.kind for row in rows(database)] == ["failed", "consumption"]


def test_an_events_id_follows_from_what_it_is_about(database: Database) -> None:
    put(database, CONTEXT)

    (row,) = rows(database)
    assert row.subject == f"batch-1:{CONTEXT.correlation_id}"
    assert row.event_id == uuid5(outbox.EVENTS, f"{row.subject}:failed:1")
    assert UUID(json.loads(row.payload)["event_id"]) == row.event_id


def test_what_is_stored_is_the_platforms_event(database: Database) -> None:
    put(database, CONTEXT)

    (row,) = rows(database)
    assert (row.topic, row.key, row.event_type) == ("failed-events", "batch-1", json.loads(row.payload)["event_type"])
    assert row.published_at is None
    assert_valid("failed", json.loads(row.payload))


def test_an_event_of_a_transaction_that_fails_was_never_there(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            outbox.put(session, results.failed(CONTEXT, {}), CONTEXT, TO)
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert rows(database) == []
