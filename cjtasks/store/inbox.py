"""What was received and is not yet worked: written by the consumer, taken by the workers.

A bell carries no row. Whoever hears one takes the oldest rows, so that work groups itself under load.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update

from cjtasks.store import dead_letters
from cjtasks.store.models import InboxRow
from cjtasks.store.session import is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from cjtasks.domain.states import Bell
    from cjtasks.store.session import Database

    Step = Callable[[Session, Sequence["Message"]], list[Bell]]

ROWS_AT_ONCE = 4
"""How many rows one bell takes; more make longer transactions and a later answer for the first row."""

FRESH = timedelta(seconds=2)
"""A row still undone after this was most likely tried before, and may be what made that try fail."""

ONE_BY_ONE = 3
"""From this attempt on a row is worked message by message, so that one bad message cannot hold the rest."""


class Kind(StrEnum):
    REQUEST = "request"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    partition: int
    offset: int
    payload: bytes
    received_at: datetime


def write(session: Session, kind: Kind, messages: Sequence[Message]) -> None:
    """Store messages of one kind and one topic, polled together, as one row."""
    first = messages[0]
    session.add(
        InboxRow(
            kind=kind,
            topic=first.topic,
            partitions=[m.partition for m in messages],
            offsets=[m.offset for m in messages],
            payloads=[m.payload for m in messages],
            received_at=first.received_at,
            next_attempt_at=first.received_at,
        )
    )


def work(database: Database, clock: Callable[[], datetime], steps: Mapping[Kind, Step]) -> list[Bell]:
    """Work the oldest rows that are due, in one transaction, and return the bells to ring after it."""
    with database.transaction() as session:
        now = clock()
        rows = _oldest_due(session, now)
        if not rows or rows[0].received_at > now - FRESH:
            return _work(session, [row for row in rows if not row.attempts], steps, now)
        suspects = _suspects(rows)
        for row in suspects:
            row.attempts += 1
            row.next_attempt_at = now + timedelta(seconds=min(2**row.attempts, 60))
        taken = {row.id: row.attempts for row in suspects}
    return _work_suspects(database, clock, steps, taken)


def _oldest_due(session: Session, now: datetime) -> Sequence[InboxRow]:
    return session.scalars(
        select(InboxRow)
        .where(InboxRow.done_at.is_(None), InboxRow.next_attempt_at <= now)
        .order_by(InboxRow.id)
        .limit(ROWS_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()


def _suspects(rows: Sequence[InboxRow]) -> list[InboxRow]:
    """Take rows of a mere backlog together, but a row that was tried before alone."""
    return [rows[0]] if rows[0].attempts else [row for row in rows if not row.attempts]


def _work(session: Session, rows: Sequence[InboxRow], steps: Mapping[Kind, Step], now: datetime) -> list[Bell]:
    bells: list[Bell] = []
    for kind in Kind:
        messages = [message for row in rows if row.kind == kind for message in messages_of(row)]
        if messages:
            bells += steps[kind](session, messages)
    for row in rows:
        row.done_at = now
    return bells


def messages_of(row: InboxRow) -> list[Message]:
    return [
        Message(row.topic, partition, offset, payload, row.received_at)
        for partition, offset, payload in zip(row.partitions, row.offsets, row.payloads, strict=True)
    ]


def _work_suspects(
    database: Database, clock: Callable[[], datetime], steps: Mapping[Kind, Step], taken: Mapping[int, int]
) -> list[Bell]:
    """Work rows whose attempt is already on record, so that even a crash of this process is counted."""
    try:
        with database.transaction() as session:
            rows = _still_ours(session, taken)
            if any(row.attempts >= ONE_BY_ONE for row in rows):
                return [bell for row in rows for bell in _one_by_one(session, row, steps, clock())]
            return _work(session, rows, steps, clock())
    except Exception as error:
        if is_passing(error):
            # The database was at fault, not the row: this try does not count.
            _give_back(database, taken, clock())
        raise


def _still_ours(session: Session, taken: Mapping[int, int]) -> Sequence[InboxRow]:
    rows = session.scalars(
        select(InboxRow)
        .where(InboxRow.id.in_(taken), InboxRow.done_at.is_(None))
        .order_by(InboxRow.id)
        .with_for_update(skip_locked=True)
    ).all()
    return [row for row in rows if row.attempts == taken[row.id]]


def _one_by_one(session: Session, row: InboxRow, steps: Mapping[Kind, Step], now: datetime) -> list[Bell]:
    bells: list[Bell] = []
    for message in messages_of(row):
        try:
            with session.begin_nested():
                bells += steps[Kind(row.kind)](session, [message])
        except Exception as error:
            if is_passing(error):
                raise
            # Only the kind of the error is kept: its text may hold what the message holds.
            dead_letters.set_aside(session, message, "PROCESSING_FAILED", type(error).__name__)
    row.done_at = now
    return bells


def _give_back(database: Database, taken: Iterable[int], now: datetime) -> None:
    with database.transaction() as session:
        session.execute(
            update(InboxRow)
            .where(InboxRow.id.in_(taken), InboxRow.done_at.is_(None))
            .values(attempts=InboxRow.attempts - 1, next_attempt_at=now + timedelta(seconds=1))
        )


def undone(session: Session, now: datetime) -> int:
    """Count the rows that are due."""
    due = select(func.count()).where(InboxRow.done_at.is_(None), InboxRow.next_attempt_at <= now)
    return session.scalar(due) or 0


def oldest_undone(session: Session) -> datetime | None:
    return session.scalar(select(func.min(InboxRow.received_at)).where(InboxRow.done_at.is_(None)))


def delete_done(session: Session, before: datetime, limit: int = 1000) -> int:
    """Delete one slice of done rows that were received before a moment; return how many went."""
    slice_ = (
        select(InboxRow.id)
        .where(InboxRow.received_at < before, InboxRow.done_at.is_not(None))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return len(session.scalars(delete(InboxRow).where(InboxRow.id.in_(slice_)).returning(InboxRow.id)).all())
