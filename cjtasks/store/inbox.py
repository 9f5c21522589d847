"""What was received and is not yet worked: written by the consumer, taken by the workers.

A bell carries no row. Whoever hears one takes the oldest rows, so that work groups itself under load. Answers come
before requests: a batch may well wait to be opened, and a thousand of them must not hold up what was judged.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, func, select, text

from cjtasks.domain.states import Bell, Work
from cjtasks.store import arrays, dead_letters
from cjtasks.store.models import InboxRow
from cjtasks.store.models.packed import pack, unpack
from cjtasks.store.prepared import Prepared, execute
from cjtasks.store.session import is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from cjtasks.store.session import Database

    Step = Callable[[Session, Sequence["Message"]], list[Bell]]

ROWS_AT_ONCE = 16
ANSWERS_AT_ONCE, REQUESTS_AT_ONCE = 1000, 50
PACKED_AT_ONCE = 4 * 1024 * 1024
"""One bell takes rows of one kind until it has so many messages, or bytes; more make longer transactions and later
answers, and fill a worker's memory."""

FRESH = timedelta(seconds=2)
"""A row still undone after this was most likely tried before, and may be what made that try fail."""

ONE_BY_ONE = 3
"""From this attempt on a row is worked message by message, so that one bad message cannot hold the rest."""


class Kind(StrEnum):
    REQUEST = "request"
    CALLBACK = "callback"


class Message(NamedTuple):
    topic: str
    partition: int
    offset: int
    payload: bytes
    received_at: datetime


class _Row(NamedTuple):
    """A row of the inbox; `packed` is None where it was found and not taken, `is_done` tells that it is marked so."""

    id: int
    kind: str
    topic: str
    partitions: list[int]
    offsets: list[int]
    packed: bytes | None
    received_at: datetime
    attempts: int
    is_done: bool


_WRITE = Prepared(
    "write_inbox",
    "text, text, bigint[], bigint[], bytea, timestamptz",
    """
    INSERT INTO inbox (kind, topic, partitions, offsets, payloads, received_at, next_attempt_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)
    """,
)

_COLUMNS = "id, kind, topic, partitions, offsets, payloads, received_at, attempts"

# By kind: callback, then request. A row without its payloads was found and is not taken, and is free in a moment. Fresh
# rows are done at once: what fails takes that back with all the rest.
_TAKE = Prepared(
    "take_inbox",
    "timestamptz, timestamptz",
    f"""
    WITH oldest AS MATERIALIZED (
        SELECT {_COLUMNS} FROM inbox WHERE done_at IS NULL AND next_attempt_at <= $1
        ORDER BY kind, id LIMIT {ROWS_AT_ONCE} FOR UPDATE SKIP LOCKED
    ), counted AS (
        SELECT *, first_value(kind) OVER by_age AS first_kind,
            first_value(received_at) OVER by_age AS first_received_at,
            sum(cardinality(offsets)) OVER by_age - cardinality(offsets) AS before,
            sum(octet_length(payloads)) OVER by_age - octet_length(payloads) AS packed_before,
            CASE kind WHEN 'request' THEN {REQUESTS_AT_ONCE} ELSE {ANSWERS_AT_ONCE} END AS enough
        FROM oldest WINDOW by_age AS (ORDER BY kind, id)
    ), chosen AS (
        SELECT *, kind = first_kind AND before < enough AND packed_before < {PACKED_AT_ONCE} AS is_taken FROM counted
    ), done AS (
        UPDATE inbox SET done_at = $1 FROM chosen
        WHERE inbox.id = chosen.id AND is_taken AND chosen.attempts = 0 AND first_received_at > $2
        RETURNING inbox.id
    )
    SELECT id, kind, topic, partitions, offsets, CASE WHEN is_taken THEN payloads END, received_at, attempts,
        id IN (SELECT id FROM done)
    FROM chosen ORDER BY kind, id
    """,  # noqa: S608  Constants of ours.
)

_TAKE_AGAIN = Prepared(
    "take_inbox_again",
    "bigint[]",
    f"""
    SELECT {_COLUMNS}, false FROM inbox WHERE id = ANY ($1) AND done_at IS NULL
    ORDER BY id FOR UPDATE SKIP LOCKED
    """,  # noqa: S608  Constants of ours.
)

_TRY = text(
    """
    UPDATE inbox SET attempts = attempts + 1,
        next_attempt_at = :now + least(2 ^ (attempts + 1), 60) * interval '1 second'
    WHERE id = ANY (:ids)
    RETURNING id, attempts
    """
)

_GIVE_BACK = text(
    """
    UPDATE inbox SET attempts = attempts - 1, next_attempt_at = :now + interval '1 second'
    WHERE id = ANY (:ids) AND done_at IS NULL
    """
)

_FINISH = text("UPDATE inbox SET done_at = :now WHERE id = ANY (:ids)")


def write(session: Session, kind: Kind, messages: Sequence[Message]) -> None:
    """Store messages of one kind and one topic, polled together, as one row."""
    execute(
        session,
        _WRITE,
        kind,
        messages[0].topic,
        arrays.plain(m.partition for m in messages),
        arrays.plain(m.offset for m in messages),
        pack([m.payload for m in messages]),
        messages[0].received_at,
    )


def work(database: Database, clock: Callable[[], datetime], steps: Mapping[Kind, Step]) -> list[Bell]:
    """Work the oldest rows that are due, in one transaction, and return the bells to ring after it."""
    with database.transaction() as session:
        now = clock()
        found = [_Row(*row) for row in execute(session, _TAKE, now, now - FRESH)]
        rows = [row for row in found if row.packed is not None]
        again = [Bell(Work.INBOX)] if len(rows) < len(found) or len(found) == ROWS_AT_ONCE else []
        done = [row for row in rows if row.is_done]
        if done or not rows:
            return _work(session, done, steps) + again
        suspects = [row.id for row in _suspects(rows)]
        taken = {row.id: row.attempts for row in session.execute(_TRY, {"ids": suspects, "now": now})}
    return _work_suspects(database, clock, steps, taken) + again


def _suspects(rows: Sequence[_Row]) -> list[_Row]:
    """Take rows of a mere backlog together, but a row that was tried before alone."""
    return [rows[0]] if rows[0].attempts else [row for row in rows if not row.attempts]


def _work(session: Session, rows: Sequence[_Row], steps: Mapping[Kind, Step]) -> list[Bell]:
    """Work rows of one kind."""
    messages = [message for row in rows for message in _messages_of(row)]
    return steps[Kind(rows[0].kind)](session, messages) if messages else []


def _messages_of(row: _Row) -> list[Message]:
    payloads = unpack(row.packed or b"")
    return [
        Message(row.topic, partition, offset, payload, row.received_at)
        for partition, offset, payload in zip(row.partitions, row.offsets, payloads, strict=True)
    ]


def _finish(session: Session, rows: Sequence[_Row], now: datetime) -> None:
    session.execute(_FINISH, {"ids": [row.id for row in rows], "now": now})


def _work_suspects(
    database: Database, clock: Callable[[], datetime], steps: Mapping[Kind, Step], taken: Mapping[int, int]
) -> list[Bell]:
    """Work rows whose attempt is already on record, so that even a crash of this process is counted."""
    try:
        with database.transaction() as session:
            found = [_Row(*row) for row in execute(session, _TAKE_AGAIN, arrays.plain(taken))]
            rows = [row for row in found if row.attempts == taken[row.id]]
            _finish(session, rows, clock())
            if any(row.attempts >= ONE_BY_ONE for row in rows):
                return [bell for row in rows for bell in _one_by_one(session, row, steps)]
            return _work(session, rows, steps)
    except Exception as error:
        if is_passing(error):
            # The database was at fault, not the row: this try does not count.
            with database.transaction() as session:
                session.execute(_GIVE_BACK, {"ids": list(taken), "now": clock()})
        raise


def _one_by_one(session: Session, row: _Row, steps: Mapping[Kind, Step]) -> list[Bell]:
    bells: list[Bell] = []
    for message in _messages_of(row):
        try:
            with session.begin_nested():
                bells += steps[Kind(row.kind)](session, [message])
        except Exception as error:
            if is_passing(error):
                raise
            # Only the kind of the error is kept: its text may hold what the message holds.
            dead_letters.set_aside(session, message, "PROCESSING_FAILED", type(error).__name__)
    return bells


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
