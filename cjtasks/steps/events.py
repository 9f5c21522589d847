"""Putting a batch's events into the outbox, in the transaction that changed its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from cjtasks.contracts import results
from cjtasks.contracts.results import EventContext
from cjtasks.domain.states import BatchStateEnum
from cjtasks.store import batches, outbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cjtasks.contracts.results import Outgoing
    from cjtasks.domain.states import Bell
    from cjtasks.settings import Settings
    from cjtasks.steps.turn import Turn
    from cjtasks.store.models import CJBatchState, CJBatchUpload


def topic_of(kind: str, settings: Settings) -> str:
    return {
        "completed": settings.COMPLETED_TOPIC,
        "failed": settings.FAILED_TOPIC,
        "result": settings.RESULT_TOPIC,
        "consumption": settings.CONSUMPTION_TOPIC,
        "partial": settings.PARTIAL_RESULT_TOPIC,
    }[kind]


def context_of(upload: CJBatchUpload, now: datetime) -> EventContext:
    return EventContext(
        entity_id=upload.bos_batch_id,
        entity_type=upload.entity_type,
        parent_id=upload.parent_id,
        correlation_id=UUID(upload.event_correlation_id),
        job_id=str(upload.id),
        now=now,
        started_at=upload.created_at,
    )


def publish(turn: Turn, event: Outgoing, state: CJBatchState) -> None:
    """Put an event of an open batch into the outbox, once for each version of its result."""
    address = outbox.Addressed(topic_of(event.kind, turn.settings), state.batch_id, state.result_version)
    outbox.put(turn.session, event, context_of(state.batch_upload, turn.now), address)


def fail(turn: Turn, state: CJBatchState, reason: Mapping[str, Any]) -> list[Bell]:
    """End a locked batch as FAILED with the one event that says why."""
    bells = batches.move(state, BatchStateEnum.FAILED, turn.now)
    state.stop_reason = str(reason["reason"])
    state.batch_upload.completed_at = turn.now
    publish(turn, results.failed(context_of(state.batch_upload, turn.now), dict(reason)), state)
    return bells
