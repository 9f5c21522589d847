"""Deadlines: unanswered requests are sent again, a batch that stands still is scored or failed.

No deadline acts while we ourselves are behind, because the answer may lie in Kafka or in our own inbox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, or_, select

from cjtasks.domain.comparisons import ComparisonStatus, Effect, after_error
from cjtasks.domain.decisions import Decision, StopReason, at_deadline
from cjtasks.domain.states import LIVE, BatchStateEnum, Bell
from cjtasks.steps import events
from cjtasks.steps.progress import go_on, limits
from cjtasks.steps.turn import Turn
from cjtasks.store import batches, comparisons, inbox
from cjtasks.store.locks import SingleFlight, alone
from cjtasks.store.models import CJBatchState, ComparisonPair, KafkaPosition

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.settings import Settings

BEHIND = timedelta(seconds=60)
BATCHES_A_RUN = 50

log = structlog.get_logger()


def is_behind(session: Session, settings: Settings, now: datetime) -> bool:
    """Tell whether answers may be waiting where no deadline can see them."""
    oldest = inbox.oldest_undone(session)
    if oldest is not None and oldest < now - BEHIND:
        return True
    topic = settings.LLM_PROVIDER_CALLBACK_TOPIC
    lagging = or_(KafkaPosition.caught_up_at.is_(None), KafkaPosition.caught_up_at < now - BEHIND)
    partitions, behind = session.execute(
        select(func.count(), func.count().filter(lagging)).where(KafkaPosition.topic == topic)
    ).one()
    return partitions == 0 or behind > 0


def check(runtime: Runtime, bell: Bell) -> list[Bell]:
    """Ask again what one batch was not answered in time."""
    with runtime.database.transaction() as session:
        now = runtime.clock()
        taken = batches.claim(session, bell, now, BEHIND)
        if taken is None or is_behind(session, runtime.settings, now):
            return []
        state = batches.lock(session, taken.batch_id)
        if state is None or state.state is not BatchStateEnum.WAITING_CALLBACKS:
            return []
        _ask_again(session, runtime.settings, state, now)
        bells = go_on(Turn(session, runtime.settings, now), state)
        if bells or state.state is not BatchStateEnum.WAITING_CALLBACKS:
            return bells
        upcoming = comparisons.what_next(session, [state.batch_id], now, limits(runtime.settings))
        return batches.due(state, *upcoming[state.batch_id]) if upcoming else []


def _ask_again(session: Session, settings: Settings, state: CJBatchState, now: datetime) -> None:
    overdue = session.scalars(
        select(ComparisonPair).where(
            ComparisonPair.cj_batch_id == state.batch_id,
            ComparisonPair.status == ComparisonStatus.IN_FLIGHT,
            ComparisonPair.submitted_at <= now - timedelta(minutes=settings.CALLBACK_TIMEOUT_MINUTES),
        )
    ).all()
    for pair in overdue:
        if after_error(pair.attempt, "TIMEOUT") is Effect.ASK_AGAIN:
            pair.status = ComparisonStatus.PLANNED
            pair.next_attempt_at = now
        else:
            pair.status = ComparisonStatus.FAILED
            pair.error_code, pair.error_message = "TIMEOUT", "no answer came in time"
            pair.completed_at = now
            state.failed_comparisons += 1
    session.flush()
    log.warning("asking again", cj_batch=state.batch_id, unanswered=len(overdue))


def monitor(runtime: Runtime) -> list[Bell]:
    """End the batches that stood still too long, a limited number a run."""
    with runtime.database.transaction() as session:
        now = runtime.clock()
        if not alone(session, SingleFlight.MONITOR) or is_behind(session, runtime.settings, now):
            return []
        stale = _stale(session, runtime.settings, now)
    return [bell for batch_id in stale for bell in _end(runtime, batch_id)]


def _stale(session: Session, settings: Settings, now: datetime) -> list[int]:
    deadline = now - timedelta(hours=settings.BATCH_TIMEOUT_HOURS)
    return list(
        session.scalars(
            select(CJBatchState.batch_id)
            .where(CJBatchState.state.in_(LIVE), CJBatchState.last_activity_at < deadline)
            .order_by(CJBatchState.batch_id)
            .limit(BATCHES_A_RUN)
        )
    )


def _end(runtime: Runtime, batch_id: int) -> list[Bell]:
    """End one batch, unless an answer or an operator was faster: the row lock decides."""
    settings = runtime.settings
    with runtime.database.transaction() as session:
        now = runtime.clock()
        state = batches.lock(session, batch_id)
        deadline = now - timedelta(hours=settings.BATCH_TIMEOUT_HOURS)
        if state is None or state.state not in LIVE or state.last_activity_at >= deadline:
            return []
        progress = batches.progress(state)
        if at_deadline(progress, settings.MIN_SUCCESS_RATE_THRESHOLD) is Decision.ADVANCE:
            state.stop_reason = StopReason.DEADLINE
            log.warning("batch forced to scoring", cj_batch=batch_id)
            return batches.move(state, BatchStateEnum.SCORING, now)
        reason = {
            "reason": "stuck_timeout_insufficient_progress",
            "progress_pct": round(100 * progress.processed / progress.total, 1) if progress.total else 0.0,
            "batch_state": state.state.value,
        }
        log.warning("batch failed", cj_batch=batch_id, reason=reason["reason"])
        return events.fail(Turn(session, settings, now), state, reason)
