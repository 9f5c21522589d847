"""What the open comparisons of a batch wait for, and when that is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import Work
from cjtasks.store.models import ComparisonPair

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

CAPPED = timedelta(seconds=0.5)
"""A batch with as many comparisons in flight as it may have is looked at again after this."""


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
    return {row[0]: next_work(Waiting(*row[1:]), now, limits) for row in rows}


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


def next_work(waiting: Waiting, now: datetime, limits: Limits) -> tuple[Work, datetime]:
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
