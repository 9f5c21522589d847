"""What moves messages in and out: the inbox, how far each partition is in it, dead letters, the outbox, the gate."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from cjtasks.store.models.base import Base, BigId, Counter, Created, Moment
from cjtasks.store.models.packed import Packed


class InboxRow(Base):
    """Messages of one kind that were polled together; also the audit record of every raw answer."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index("ix_inbox_undone", "kind", "id", postgresql_where=text("done_at IS NULL")),
        Index("ix_inbox_received_at", "received_at", postgresql_using="brin"),
        # Dead versions of undone rows slow every take: vacuum early and without pauses.
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"}},
    )

    id: Mapped[BigId]
    kind: Mapped[str]
    topic: Mapped[str]
    partitions: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    offsets: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    payloads: Mapped[list[bytes]] = mapped_column(Packed)
    received_at: Mapped[Created]
    attempts: Mapped[Counter]
    next_attempt_at: Mapped[Moment]
    done_at: Mapped[datetime | None]


class KafkaPosition(Base):
    """How far a partition is safely in the inbox; `caught_up_at`: all that Kafka held then is in the inbox."""

    __tablename__ = "kafka_positions"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    next_offset: Mapped[int]
    caught_up_at: Mapped[datetime | None]


class DeadLetterRow(Base):
    """A message that could not be used, with its reason."""

    __tablename__ = "dead_letters"
    id: Mapped[BigId]
    topic: Mapped[str]
    partition: Mapped[int]
    offset: Mapped[int]
    payload: Mapped[bytes]
    reason: Mapped[str]
    detail: Mapped[str]
    received_at: Mapped[Moment]
    replayed_at: Mapped[datetime | None]


class OutboxEvent(Base):
    """What goes out; the payload is frozen at insert, so a retry publishes the same bytes."""

    __tablename__ = "event_outbox"
    __table_args__ = (
        UniqueConstraint("subject", "kind", "version"),
        Index("ix_event_outbox_unpublished", "id", postgresql_where=text("published_at IS NULL")),
    )

    id: Mapped[BigId]
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("cj_batch_uploads.id", ondelete="CASCADE"), index=True)
    subject: Mapped[str]
    kind: Mapped[str]
    version: Mapped[int]
    event_id: Mapped[UUID]
    event_type: Mapped[str]
    topic: Mapped[str]
    key: Mapped[str]
    payload: Mapped[bytes]
    created_at: Mapped[Created]
    published_at: Mapped[datetime | None]


class ProviderGate(Base):
    """The one row that says not before when the provider may be asked; NULL: open."""

    __tablename__ = "provider_gate"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    not_before: Mapped[datetime | None]
    refusals: Mapped[Counter]
