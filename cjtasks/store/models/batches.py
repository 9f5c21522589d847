"""Batches, their states, essays, comparisons and scores. Lock a batch's state before anything else of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Enum, ForeignKey, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Work
from cjtasks.store.models.base import Base, BatchKey, BigId, Counter, Created, Flag, Json, Moment


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
    attempt: Mapped[Counter]
    refusals: Mapped[Counter]
    lease_until: Mapped[datetime | None]
    claim_token: Mapped[UUID | None]
    request_id: Mapped[str | None]
    prompt_sha256: Mapped[str | None]
    submitted_at: Mapped[datetime | None]
    next_attempt_at: Mapped[Moment]
    # Postgres logs an updated row from its first changed byte on, so what an answer changes comes last.
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
    last_error_request_id: Mapped[str | None]
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


class ScoreSnapshot(Base):
    """What was found and kept at one moment; scores are posterior means in logits, by essay id."""

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
    rank_intervals: Mapped[Json]
    reliability: Mapped[float | None]
    reliability_q25: Mapped[float | None]
    differences_are_real: Mapped[bool | None]
    certainty: Mapped[str | None]
    words: Mapped[list[str]] = mapped_column(ARRAY(Text))
    ssr: Mapped[float | None]
    side_effect: Mapped[float | None]
    side_effect_se: Mapped[float | None]
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
