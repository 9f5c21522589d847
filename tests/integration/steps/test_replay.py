"""Dead letters go back into the inbox and are read again; those that are not whole stay where they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from cjtasks.contracts.topics import CALLBACK_TOPIC, REQUEST_TOPIC
from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.steps.replay import NOT_WHOLE, replay
from cjtasks.store import dead_letters
from cjtasks.store.dead_letters import Chosen
from cjtasks.store.inbox import Message
from cjtasks.store.models import CJBatchState, CJBatchUpload, DeadLetterRow, InboxRow
from cjtasks.tasks import work_inbox_once
from consumers.routes import kinds
from tests.checks import assert_consistent
from tests.factories import NOW, batch_in, comparisons, success

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database

REQUEST = BatchRequest({"essay-1": "text-1", "essay-2": "text-2"})


def set_aside(database: Database, payload: bytes, reason: str, topic: str = REQUEST_TOPIC) -> int:
    with database.transaction() as session:
        dead_letters.set_aside(session, Message(topic, 0, 7, payload, NOW), reason, "a detail")
        session.flush()
        return session.scalar(select(func.max(DeadLetterRow.id))) or 0


def replayed(runtime: Runtime, chosen: Chosen) -> list[int]:
    ids, bells = replay(runtime, chosen, kinds(runtime.settings))
    assert bells == ([Bell(Work.INBOX)] if ids else [])
    return ids


def count(database: Database, table: type[InboxRow | CJBatchUpload | DeadLetterRow]) -> int:
    with database.transaction() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_replayed_request_opens_its_batch(runtime: Runtime, database: Database) -> None:
    letter = set_aside(database, REQUEST.payload(NOW), "PROCESSING_FAILED")

    assert replayed(runtime, Chosen(ids=[letter])) == [letter]
    bells = work_inbox_once(runtime)

    with database.transaction() as session:
        upload = session.scalars(select(CJBatchUpload)).one()
        assert session.get_one(DeadLetterRow, letter).replayed_at == NOW
    assert (upload.bos_batch_id, bells) == (REQUEST.batch_id, [Bell(Work.PREPARE, upload.id)])


def test_a_replayed_answer_counts_now_that_its_comparison_is_known(runtime: Runtime, database: Database) -> None:
    with database.transaction() as session:
        state = batch_in(session, BatchStateEnum.WAITING_CALLBACKS)
        pair, _ = comparisons(session, state, 2, ComparisonStatus.IN_FLIGHT)
    letter = set_aside(database, success(pair), "UNKNOWN_CORRELATION", CALLBACK_TOPIC)

    replayed(runtime, Chosen(reason="UNKNOWN_CORRELATION"))
    work_inbox_once(runtime)

    with database.transaction() as session:
        assert_consistent(session, state.batch_id)
        assert session.get_one(CJBatchState, state.batch_id).completed_comparisons == 1
        assert session.get_one(DeadLetterRow, letter).replayed_at == NOW


def test_a_dead_letter_that_still_cannot_be_used_is_set_aside_again(runtime: Runtime, database: Database) -> None:
    letter = set_aside(database, b"no message", "UNREADABLE_REQUEST")

    replayed(runtime, Chosen(ids=[letter]))
    work_inbox_once(runtime)

    with database.transaction() as session:
        (again,) = dead_letters.find(session, Chosen())
    assert again.id > letter
    assert (again.reason, again.payload, again.offset) == ("UNREADABLE_REQUEST", b"no message", 7)


def test_a_dead_letter_is_replayed_once(runtime: Runtime, database: Database) -> None:
    letter = set_aside(database, REQUEST.payload(NOW), "PROCESSING_FAILED")
    assert replayed(runtime, Chosen()) == [letter]

    assert replayed(runtime, Chosen()) == []
    with pytest.raises(OperationRefused, match=f"no dead letter {letter} that"):
        replayed(runtime, Chosen(ids=[letter]))
    assert count(database, InboxRow) == 1


def test_the_filters_choose_which_are_meant(runtime: Runtime, database: Database) -> None:
    add = partial(set_aside, database, REQUEST.payload(NOW))
    request, crash, answer = add("UNREADABLE_REQUEST"), add("PROCESSING_FAILED"), add("X", CALLBACK_TOPIC)
    set_aside(database, b"", "EMPTY_MESSAGE")

    def found(**chosen: Any) -> list[int]:
        with database.transaction() as session:
            return [row.id for row in dead_letters.find(session, Chosen(**chosen))]

    assert found(reason="PROCESSING_FAILED") == [crash]
    assert found(topic=CALLBACK_TOPIC) == [answer]
    assert found(topic=REQUEST_TOPIC, limit=2) == [request, crash]
    assert found(ids=[crash, answer], reason="X") == [answer]
    assert found(ids=[]) == []
    assert replayed(runtime, Chosen(topic=CALLBACK_TOPIC)) == [answer]
    assert found(replayed=True) == [answer]
    assert answer not in found()
    assert answer in found(replayed=None)


@pytest.mark.parametrize("reason", sorted(NOT_WHOLE))
def test_what_is_not_whole_is_refused_and_nothing_else_is_replayed_with_it(
    runtime: Runtime, database: Database, reason: str
) -> None:
    set_aside(database, REQUEST.payload(NOW), "PROCESSING_FAILED")
    letter = set_aside(database, b"the beginning of a message", reason)

    with pytest.raises(OperationRefused, match=f"dead letter {letter} is {reason}"):
        replayed(runtime, Chosen())

    assert count(database, InboxRow) == 0
    with database.transaction() as session:
        assert len(dead_letters.find(session, Chosen())) == 2


def test_what_came_from_a_topic_that_is_not_ours_any_more_is_refused(runtime: Runtime, database: Database) -> None:
    set_aside(database, REQUEST.payload(NOW), "PROCESSING_FAILED", "an.old.topic")
    with pytest.raises(OperationRefused, match=r"an\.old\.topic"):
        replayed(runtime, Chosen())
    assert count(database, InboxRow) == 0
