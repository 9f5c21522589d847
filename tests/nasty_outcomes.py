"""What became of a message, read from the rows; and the comparisons that answers are about."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Work
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchUpload, ComparisonPair, DeadLetterRow, OutboxEvent
from tests.factories import batch_in, comparisons
from tests.nasty import Becomes, Case, entity_of

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

_OF_STATUS = {
    ComparisonStatus.COMPLETED: Becomes.JUDGED,
    ComparisonStatus.PLANNED: Becomes.ERROR,
    ComparisonStatus.FAILED: Becomes.FINAL_ERROR,
}


class Place(NamedTuple):
    topic: str
    partition: int
    offset: int


class Asked(NamedTuple):
    """How a comparison was asked: its attempt says whether an error answer is its last."""

    match_on: UUID
    request_id: str
    attempt: int
    now: datetime


def ask(session: Session, asked: Asked) -> int:
    """Store a batch that waits for this answer and for one more that never comes; return its id."""
    state = batch_in(
        session,
        BatchStateEnum.WAITING_CALLBACKS,
        next_action=Work.CHECK,
        next_action_at=asked.now + timedelta(hours=1),
        last_activity_at=asked.now,
    )
    flying = {"attempt": asked.attempt, "submitted_at": asked.now}
    first, _ = comparisons(session, state, 2, ComparisonStatus.IN_FLIGHT, **flying)
    first.request_correlation_id, first.request_id = asked.match_on, asked.request_id
    session.flush()
    return state.batch_id


def letter_at(session: Session, place: Place) -> DeadLetterRow | None:
    topic, partition, offset = place
    letters = select(DeadLetterRow).where(
        DeadLetterRow.topic == topic, DeadLetterRow.partition == partition, DeadLetterRow.offset == offset
    )
    return session.scalars(letters).one_or_none()


def became(session: Session, case: Case, place: Place) -> tuple[Becomes | None, str]:
    """Tell what became of a message and what was said about it; None where nothing did."""
    letter = letter_at(session, place)
    if case.kind is Kind.REQUEST:
        return _request_became(session, case, letter)
    if letter is not None:
        return Becomes.SET_ASIDE, letter.detail
    return _answer_became(pair_of(session, case))


def problem(case: Case, found: tuple[Becomes | None, str]) -> str | None:
    """Say what is wrong, None where all is as the case foretells."""
    becomes, says = found
    if becomes is case.becomes and says.startswith(case.says):
        return None
    return f"{case.name}: became {becomes} {says!r}, should be {case.becomes} {case.says!r}"


def pair_of(session: Session, case: Case) -> ComparisonPair | None:
    return session.scalars(
        select(ComparisonPair).where(ComparisonPair.request_correlation_id == case.match_on)
    ).one_or_none()


def _request_became(session: Session, case: Case, letter: DeadLetterRow | None) -> tuple[Becomes | None, str]:
    entity = entity_of(case.payload)
    info = _told(session, entity)
    if letter is not None:
        return (Becomes.SET_ASIDE_AND_TOLD if info else Becomes.SET_ASIDE), letter.detail
    if session.scalars(select(CJBatchUpload).where(CJBatchUpload.bos_batch_id == entity)).one_or_none() is not None:
        return (None, "a batch and a refusal") if info else (Becomes.OPENED, "")
    return (Becomes.REFUSED, info["details"]["field"]) if info else (None, "")


def _told(session: Session, entity: str | None) -> dict[str, Any] | None:
    """Return the reason in the one failed event that tells the sender that no batch was opened."""
    payload = session.scalars(
        select(OutboxEvent.payload).where(
            OutboxEvent.key == entity, OutboxEvent.kind == "failed", OutboxEvent.batch_id.is_(None)
        )
    ).one_or_none()
    if payload is None:
        return None
    data = json.loads(payload)["data"]
    info: dict[str, Any] = data["system_metadata"]["error_info"]
    assert (data["cj_assessment_job_id"], info["error_code"]) == ("INITIALIZATION_FAILED", "VALIDATION_ERROR")
    return info


def _answer_became(pair: ComparisonPair | None) -> tuple[Becomes | None, str]:
    if pair is None:
        return None, "no such comparison"
    return _OF_STATUS.get(pair.status), pair.winner or pair.error_code or ""
