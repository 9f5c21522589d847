"""Messages that could not be used, kept whole with their reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cjtasks.store.models import DeadLetterRow

if TYPE_CHECKING:
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
