"""Reading and writing comparisons in sets: finding them by their correlation ids, recording answers, what is due."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from sqlalchemy import func, select, text

from cjtasks.domain.comparisons import ComparisonStatus, Standing
from cjtasks.domain.states import Work
from cjtasks.store.models import ComparisonPair

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from uuid import UUID

    from sqlalchemy.orm import Session

CAPPED = timedelta(seconds=0.5)
"""A batch with as many comparisons in flight as it may have is looked at again after this."""


@dataclass(frozen=True, slots=True)
class Open:
    """What the step of the answers reads of a comparison."""

    id: int
    batch_id: int
    standing: Standing
    submitted_at: datetime | None
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """The new values of a comparison that an answer changes."""

    id: int
    status: ComparisonStatus
    next_attempt_at: datetime
    submitted_at: datetime
    completed_at: datetime | None = None
    judged_at: datetime | None = None
    last_error_request_id: str | None = None
    winner: str | None = None
    confidence: float | None = None
    justification: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_service: str | None = None
    error_details: dict[str, Any] | None = None
    provider: str | None = None
    model: str | None = None
    response_time_ms: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    late: bool = False


# One JSON parameter for all rows is one of the cheapest ways to send many values through psycopg2, whose
# adaptation of lists costs more than reading the messages does. A row that is no longer open stays as it is.
_RECORD = text(
    """
    UPDATE cj_comparison_pairs AS pair SET
        status = new.status,
        next_attempt_at = new.next_attempt_at,
        submitted_at = new.submitted_at,
        completed_at = new.completed_at,
        judged_at = new.judged_at,
        last_error_request_id = coalesce(new.last_error_request_id, pair.last_error_request_id),
        winner = new.winner,
        confidence = new.confidence,
        justification = new.justification,
        error_code = new.error_code,
        error_message = new.error_message,
        error_service = new.error_service,
        error_details = new.error_details,
        provider = new.provider,
        model = new.model,
        response_time_ms = new.response_time_ms,
        prompt_tokens = new.prompt_tokens,
        completion_tokens = new.completion_tokens,
        total_tokens = new.total_tokens,
        cost = new.cost,
        late = new.late
    FROM jsonb_to_recordset(CAST(:changes AS jsonb)) AS new(
        id bigint, status text, next_attempt_at timestamptz, submitted_at timestamptz, completed_at timestamptz,
        judged_at timestamptz, last_error_request_id text, winner text, confidence float8, justification text,
        error_code text, error_message text, error_service text, error_details jsonb, provider text, model text,
        response_time_ms bigint, prompt_tokens bigint, completion_tokens bigint, total_tokens bigint, cost float8,
        late boolean
    )
    WHERE pair.id = new.id AND pair.status IN ('planned', 'claimed', 'in_flight')
    RETURNING pair.id
    """
)


def batches_of(session: Session, correlation_ids: Collection[UUID]) -> dict[UUID, int]:
    """Tell which batch each correlation id belongs to; strangers are left out. Nothing is locked."""
    rows = session.execute(
        select(ComparisonPair.request_correlation_id, ComparisonPair.cj_batch_id).where(
            ComparisonPair.request_correlation_id.in_(correlation_ids)
        )
    )
    return dict(rows.all())


def read(session: Session, correlation_ids: Collection[UUID]) -> dict[UUID, Open]:
    """Read comparisons whose batches are locked: whoever changes a comparison holds its batch."""
    rows = session.execute(
        select(
            ComparisonPair.request_correlation_id,
            ComparisonPair.id,
            ComparisonPair.cj_batch_id,
            ComparisonPair.status,
            ComparisonPair.attempt,
            ComparisonPair.request_id,
            ComparisonPair.submitted_at,
            ComparisonPair.next_attempt_at,
        ).where(ComparisonPair.request_correlation_id.in_(correlation_ids))
    )
    return {
        row.request_correlation_id: Open(
            row.id,
            row.cj_batch_id,
            Standing(row.status, row.attempt, row.request_id),
            row.submitted_at,
            row.next_attempt_at,
        )
        for row in rows
    }


def record(session: Session, changes: Iterable[Change]) -> set[int]:
    """Write what answers changed, and return the ids of the rows that really changed."""
    rows = [asdict(change) for change in changes]
    if not rows:
        return set()
    return set(session.scalars(_RECORD, {"changes": to_json(rows).decode()}))


def what_next(
    session: Session, batch_ids: Collection[int], now: datetime, limits: Limits
) -> dict[int, tuple[Work, datetime]]:
    """Tell for each waiting batch what is due next and when: asking, or looking after what was not answered."""
    status, flight = ComparisonPair.status, (ComparisonStatus.CLAIMED, ComparisonStatus.IN_FLIGHT)
    rows = session.execute(
        select(
            ComparisonPair.cj_batch_id,
            func.min(ComparisonPair.next_attempt_at).filter(status == ComparisonStatus.PLANNED),
            func.min(ComparisonPair.lease_until).filter(status == ComparisonStatus.CLAIMED),
            func.min(ComparisonPair.submitted_at).filter(status == ComparisonStatus.IN_FLIGHT),
            func.count().filter(status.in_(flight)),
        )
        .where(ComparisonPair.cj_batch_id.in_(batch_ids))
        .group_by(ComparisonPair.cj_batch_id)
    )
    return {row[0]: _what_next(Waiting(*row[1:]), now, limits) for row in rows}


@dataclass(frozen=True, slots=True)
class Limits:
    """How many comparisons of a batch may be in flight, and how long an answer is waited for."""

    in_flight: int
    callback_timeout: timedelta


@dataclass(frozen=True, slots=True)
class Waiting:
    """The earliest moments of a batch's open comparisons by status, and how many are in flight."""

    planned_at: datetime | None
    lease_until: datetime | None
    submitted_at: datetime | None
    in_flight: int


def _what_next(waiting: Waiting, now: datetime, limits: Limits) -> tuple[Work, datetime]:
    """Choose what comes first.

    What can be sent now goes before any look at what is overdue. But a batch whose places are all held by
    unanswered comparisons, or that pauses for long, must look after those, or it would wait for ever.
    """
    submit_at = _submit_at(waiting, now, limits)
    overdue_at = (waiting.submitted_at or now) + limits.callback_timeout
    if submit_at is None:
        return Work.CHECK, overdue_at
    if waiting.submitted_at is None or submit_at <= max(overdue_at, now):
        return Work.SUBMIT, submit_at
    return Work.CHECK, overdue_at


def _submit_at(waiting: Waiting, now: datetime, limits: Limits) -> datetime | None:
    moments = [waiting.lease_until] if waiting.lease_until else []
    if waiting.planned_at:
        free_at = now if waiting.in_flight < limits.in_flight else now + CAPPED
        moments.append(max(waiting.planned_at, free_at))
    return min(moments, default=None)
