"""Messages that could not be used, kept whole with their reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from cjtasks.store.models import DeadLetterRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from cjtasks.store.inbox import Message


def set_aside(session: Session, message: Message, reason: str, detail: str) -> None:
    """Keep a message that cannot be used; `detail` names fields and codes, never the content."""
    session.add(
        DeadLetterRow(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            payload=message.payload,
            reason=reason,
            detail=detail,
            received_at=message.received_at,
        )
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which dead letters are meant; None means any."""

    ids: Sequence[int] | None = None
    reason: str | None = None
    topic: str | None = None
    replayed: bool | None = False
    limit: int = 1000


def find(session: Session, chosen: Chosen) -> Sequence[DeadLetterRow]:
    """Return the dead letters that are meant, the oldest first."""
    wanted = select(DeadLetterRow).order_by(DeadLetterRow.id).limit(chosen.limit)
    if chosen.ids is not None:
        wanted = wanted.where(DeadLetterRow.id.in_(chosen.ids))
    if chosen.reason is not None:
        wanted = wanted.where(DeadLetterRow.reason == chosen.reason)
    if chosen.topic is not None:
        wanted = wanted.where(DeadLetterRow.topic == chosen.topic)
    if chosen.replayed is not None:
        wanted = wanted.where(DeadLetterRow.replayed_at.is_not(None) == chosen.replayed)
    return session.scalars(wanted).all()
