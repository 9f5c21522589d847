"""A running platform in words, for whoever reads why a test failed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import select

from cjtasks.domain.states import BatchStateEnum
from cjtasks.store.models import CJBatchState, ComparisonPair, DeadLetterRow, InboxRow, OutboxEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from .platform import Platform

MOST_LINES = 15


def picture(running: Platform) -> str:
    """Tell of batches, undone rows, the provider's counts and the last lines of every log."""
    with running.database.transaction() as session:
        stored = [*_batches(session), *_undone(session)]
    return "\n".join([*stored, *_processes(running), *_logs(running)])


def _batches(session: Session) -> Iterator[str]:
    states = session.scalars(select(CJBatchState).order_by(CJBatchState.batch_id)).all()
    yield f"batches: {dict(Counter(state.state.value for state in states))}"
    unfinished = [state for state in states if state.state is not BatchStateEnum.COMPLETED]
    for state in unfinished[:MOST_LINES]:
        yield (
            f"  batch {state.batch_id} {state.state} iteration {state.current_iteration} "
            f"total {state.total_comparisons} submitted {state.submitted_comparisons} "
            f"completed {state.completed_comparisons} failed {state.failed_comparisons} "
            f"next {state.next_action} at {state.next_action_at} ({state.stop_reason})"
        )
    statuses = session.scalars(select(ComparisonPair.status)).all()
    yield f"comparisons: {dict(Counter(status.value for status in statuses))}"


def _undone(session: Session) -> Iterator[str]:
    rows = session.scalars(select(InboxRow).where(InboxRow.done_at.is_(None)).order_by(InboxRow.id)).all()
    yield f"undone inbox rows: {len(rows)}"
    for row in rows[:MOST_LINES]:
        yield f"  row {row.id} {row.kind} of {len(row.payloads)}: {row.attempts} attempts, due {row.next_attempt_at}"
    for letter in session.scalars(select(DeadLetterRow).limit(MOST_LINES)):
        yield f"  dead letter {letter.id} of {letter.topic}: {letter.reason} {letter.detail}"
    unpublished = session.scalars(select(OutboxEvent.id).where(OutboxEvent.published_at.is_(None))).all()
    yield f"unpublished events: {len(unpublished)}"


def _processes(running: Platform) -> Iterator[str]:
    yield f"asked for {len(running.asked)} batches; a process that has ended: {running.here.supervisor.poll()}"
    yield f"provider: {running.stats()}"


def _logs(running: Platform) -> Iterator[str]:
    for log in sorted(running.logs.glob("*.log")):
        yield f"--- the end of {log}"
        yield from log.read_text(encoding="utf-8", errors="replace").splitlines()[-MOST_LINES:]
