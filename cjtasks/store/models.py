"""The tables. `cj_batch_states` is the truth about a batch; everything else hangs on it or feeds it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Enum,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Work

BigId = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
Moment = Annotated[datetime, mapped_column(TIMESTAMP(timezone=True))]
Created = Annotated[datetime, mapped_column(TIMESTAMP(timezone=True), server_default=func.now())]
Counter = Annotated[int, mapped_column(default=0, server_default=text("0"))]
Flag = Annotated[bool, mapped_column(default=False, server_default=false())]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
BatchKey = Annotated[int, mapped_column(ForeignKey("cj_batch_uploads.id", ondelete="CASCADE"))]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: Text, datetime: TIMESTAMP(timezone=True), int: BigInteger}  # noqa: RUF012 - SQLAlchemy reads a plain dict.


class CJBatchUpload(Base):
    """One request; the same request twice opens one batch."""

    __tablename__ = "cj_batch_uploads"
    __table_args__ = (UniqueConstraint("bos_batch_id", "event_correlation_id"),)

    id: Mapped[BigId]
    bos_batch_id: Mapped[str]
    event_correlation_id: Mapped[str]
    entity_type: Mapped[str] = mapped_column(default="batch", server_default="batch")
    parent_id: Mapped[str | None]
    language: Mapped[str]
    course_code: Mapped[str]
    user_id: Mapped[str | None]
    org_id: Mapped[str | None]
    assignment_id: Mapped[str | None]
    expected_essay_count: Mapped[int]
    student_prompt_storage_id: Mapped[str | None]
    student_prompt_text: Mapped[str | None]
    student_prompt_first_failed_at: Mapped[datetime | None]
    student_prompt_error: Mapped[str | None]
    configuration: Mapped[Json]
    created_at: Mapped[Created]
    updated_at: Mapped[Created] = mapped_column(onupdate=func.now())
    completed_at: Mapped[datetime | None]
    processing_metadata: Mapped[Json | None]

    batch_state: Mapped[CJBatchState] = relationship(
        back_populates="batch_upload", uselist=False, cascade="all, delete-orphan", passive_deletes=True
    )
    essays: Mapped[list[ProcessedEssay]] = relationship(
        back_populates="batch",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="ProcessedEssay.position",
    )
    comparison_pairs: Mapped[list[ComparisonPair]] = relationship(
        back_populates="batch", cascade="all, delete-orphan", passive_deletes=True
    )


class CJBatchState(Base):
    """Where a batch stands, what is due next, and when. Lock this row before anything else of the batch."""

    __tablename__ = "cj_batch_states"
    __table_args__ = (
        CheckConstraint("(next_action IS NULL) = (next_action_at IS NULL)", name="action_has_time"),
        CheckConstraint(
            "(state IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (next_action IS NULL)", name="live_has_action"
        ),
        # Answers come much faster than states change: free room in each page keeps their updates in place.
        {"postgresql_with": {"fillfactor": "50"}},
    )

    batch_id: Mapped[int] = mapped_column(
        ForeignKey("cj_batch_uploads.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    state: Mapped[BatchStateEnum] = mapped_column(
        Enum(BatchStateEnum, name="batch_state_enum", values_callable=lambda e: [m.value for m in e]),
        default=BatchStateEnum.INITIALIZING,
        index=True,
    )
    state_since: Mapped[Created]
    total_budget: Mapped[int]
    total_comparisons: Mapped[Counter]
    submitted_comparisons: Mapped[Counter]
    completed_comparisons: Mapped[Counter]
    failed_comparisons: Mapped[Counter]
    last_activity_at: Mapped[Created]
    next_action: Mapped[Work | None] = mapped_column(
        Enum(
            Work,
            native_enum=False,
            create_constraint=False,
            length=None,
            values_callable=lambda e: [m.value for m in e],
        )
    )
    next_action_at: Mapped[datetime | None] = mapped_column(index=True)
    partial_scoring_triggered: Mapped[Flag]
    completion_threshold_pct: Mapped[int] = mapped_column(default=95, server_default=text("95"))
    current_iteration: Mapped[Counter]
    result_version: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    version: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    stop_reason: Mapped[str | None]
    processing_metadata: Mapped[Json | None]

    batch_upload: Mapped[CJBatchUpload] = relationship(back_populates="batch_state")


class ProcessedEssay(Base):
    """One essay of one batch; the same essay may be in many batches."""

    __tablename__ = "cj_processed_essays"

    cj_batch_id: Mapped[BatchKey] = mapped_column(primary_key=True)
    els_essay_id: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    text_storage_id: Mapped[str]
    assessment_input_text: Mapped[str | None]
    fetch_attempts: Mapped[Counter]
    next_attempt_at: Mapped[datetime | None]
    first_failed_at: Mapped[datetime | None]
    fetch_error: Mapped[str | None]
    current_bt_score: Mapped[float | None]
    current_bt_se: Mapped[float | None]
    comparison_count: Mapped[Counter]
    is_anchor: Mapped[Flag]
    created_at: Mapped[Created]

    batch: Mapped[CJBatchUpload] = relationship(back_populates="essays")


class ComparisonPair(Base):
    """One comparison: which two essays, who asked when, and what the judge said."""

    __tablename__ = "cj_comparison_pairs"
    __table_args__ = (
        UniqueConstraint("cj_batch_id", "iteration", "ordinal"),
        UniqueConstraint("request_correlation_id"),
        CheckConstraint("winner IN ('essay_a', 'essay_b')", name="winner"),
        CheckConstraint("essay_a_els_id <> essay_b_els_id", name="two_essays"),
        CheckConstraint(
            "status <> 'completed' OR (winner IS NOT NULL AND error_code IS NULL)",
            name="completed_has_winner",
        ),
        CheckConstraint("status <> 'failed' OR (winner IS NULL AND error_code IS NOT NULL)", name="failed_has_code"),
        # A row is written three times in its life: free room in each page keeps these updates in place.
        {"postgresql_with": {"fillfactor": "50"}},
    )

    id: Mapped[BigId]
    cj_batch_id: Mapped[BatchKey]
    iteration: Mapped[int]
    ordinal: Mapped[int]
    essay_a_els_id: Mapped[str]
    essay_b_els_id: Mapped[str]
    request_correlation_id: Mapped[UUID]
    status: Mapped[ComparisonStatus] = mapped_column(
        Enum(
            ComparisonStatus,
            native_enum=False,
            create_constraint=False,
            length=None,
            values_callable=lambda e: [m.value for m in e],
        ),
        default=ComparisonStatus.PLANNED,
    )
    attempt: Mapped[Counter]
    refusals: Mapped[Counter]
    next_attempt_at: Mapped[Moment]
    lease_until: Mapped[datetime | None]
    claim_token: Mapped[UUID | None]
    request_id: Mapped[str | None]
    last_error_request_id: Mapped[str | None]
    prompt_sha256: Mapped[str | None]
    submitted_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    judged_at: Mapped[datetime | None]
    winner: Mapped[str | None]
    confidence: Mapped[float | None]
    justification: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_service: Mapped[str | None]
    error_details: Mapped[Json | None]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    response_time_ms: Mapped[int | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    total_tokens: Mapped[int | None]
    cost: Mapped[float | None]
    late: Mapped[Flag]

    batch: Mapped[CJBatchUpload] = relationship(back_populates="comparison_pairs")


class InboxRow(Base):
    """Messages of one kind that were polled together; also the audit record of every raw answer."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index("ix_inbox_undone", "id", postgresql_where=text("done_at IS NULL")),
        Index("ix_inbox_received_at", "received_at", postgresql_using="brin"),
        # Dead versions of undone rows slow every take: vacuum early and without pauses.
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"}},
    )

    id: Mapped[BigId]
    kind: Mapped[str]
    topic: Mapped[str]
    partitions: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    offsets: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    payloads: Mapped[list[bytes]] = mapped_column(ARRAY(LargeBinary))
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


class ScoreSnapshot(Base):
    """A fit that was kept: scores and standard errors by essay, and what they were computed from."""

    __tablename__ = "score_snapshots"
    __table_args__ = (UniqueConstraint("batch_id", "kind", "version", "iteration"),)

    id: Mapped[BigId]
    batch_id: Mapped[BatchKey]
    kind: Mapped[str]
    version: Mapped[int]
    iteration: Mapped[int]
    comparisons: Mapped[int]
    scores: Mapped[Json]
    standard_errors: Mapped[Json]
    ssr: Mapped[float | None]
    components: Mapped[int]
    created_at: Mapped[Created]


class OperatorAction(Base):
    """What an operator did to a batch: who, when, why."""

    __tablename__ = "operator_actions"

    id: Mapped[BigId]
    batch_id: Mapped[BatchKey] = mapped_column(index=True)
    action: Mapped[str]
    operator: Mapped[str]
    reason: Mapped[str]
    details: Mapped[Json]
    acted_at: Mapped[Moment]


class ProviderGate(Base):
    """The one row that says not before when the provider may be asked; NULL: open."""

    __tablename__ = "provider_gate"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    not_before: Mapped[datetime | None]
    refusals: Mapped[Counter]
