"""Outgoing events, written in the transaction that changed the state, published later by the relay."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from sqlalchemy.dialects.postgresql import insert

from cjtasks.contracts.refusal import LONGEST_ID
from cjtasks.contracts.results import envelope_bytes
from cjtasks.store.models import OutboxEvent

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cjtasks.contracts.results import EventContext, Outgoing

EVENTS = UUID("7f0f3a52-6c0b-5c1e-9d55-3f6f4f0a8f11")
"""The name space of event ids: the same event has the same id however often it is sent."""


@dataclass(frozen=True, slots=True)
class Addressed:
    """Where one event goes, and which result it belongs to."""

    topic: str
    batch_id: int | None
    version: int = 1


def put(session: Session, event: Outgoing, context: EventContext, to: Addressed) -> bool:
    """Write one event; False when this subject already has this kind in this version."""
    subject = f"{_indexable(context.entity_id)}:{context.correlation_id}"
    event_id = uuid5(EVENTS, f"{subject}:{event.kind}:{to.version}")
    row = (
        insert(OutboxEvent)
        .values(
            batch_id=to.batch_id,
            subject=subject,
            kind=event.kind,
            version=to.version,
            event_id=event_id,
            event_type=event.event_type,
            topic=to.topic,
            key=event.topic_key,
            payload=envelope_bytes(event, event_id, context),
            created_at=context.now,
        )
        .on_conflict_do_nothing(constraint="uq_event_outbox_subject")
        .returning(OutboxEvent.id)
    )
    return session.scalar(row) is not None


def _indexable(entity_id: str) -> str:
    """Keep an id that an index can hold; a refused request may bring a longer one, and its sender is told too."""
    encoded = entity_id.encode()
    return entity_id if len(encoded) <= LONGEST_ID else hashlib.sha256(encoded).hexdigest()
