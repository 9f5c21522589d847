"""Bells that were lost with Redis, a worker or a clock are rung again from what Postgres says is due."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from cjtasks.domain.states import Bell, Work
from cjtasks.store import inbox
from cjtasks.store.locks import SingleFlight, alone
from cjtasks.store.models import CJBatchState

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime

GRACE = timedelta(seconds=0.5)
"""What became due a moment ago was most likely rung by whoever made it due."""

BATCHES_A_SWEEP = 100
INBOX_BELLS_A_SWEEP = 20
DELETED_A_RUN = 50


def sweep(runtime: Runtime) -> list[Bell]:
    """Return the bells to ring for undone inbox rows and for batches whose time has come."""
    with runtime.database.transaction() as session:
        if not alone(session, SingleFlight.SWEEP):
            return []
        before = runtime.clock() - GRACE
        return [*_inbox_bells(session, before), *_batch_bells(session, before)]


def _inbox_bells(session: Session, before: datetime) -> list[Bell]:
    bells = -(-inbox.undone(session, before) // inbox.ROWS_AT_ONCE)
    return [Bell(Work.INBOX)] * min(bells, INBOX_BELLS_A_SWEEP)


def _batch_bells(session: Session, before: datetime) -> list[Bell]:
    """List what batches wait for; one submit serves all, however many wait for it behind a closed gate."""
    due = CJBatchState.next_action_at <= before
    rows = session.execute(
        select(CJBatchState.batch_id, CJBatchState.next_action)
        .where(due, CJBatchState.next_action != Work.SUBMIT)
        .order_by(CJBatchState.next_action_at)
        .limit(BATCHES_A_SWEEP)
    )
    bells = [Bell(work, batch_id) for batch_id, work in rows if work is not None]
    submits = session.scalar(select(exists().where(due, CJBatchState.next_action == Work.SUBMIT)))
    return [*bells, Bell(Work.SUBMIT)] if submits else bells


def clean(runtime: Runtime) -> int:
    """Delete done inbox rows older than the retention, in slices that hold no lock for long."""
    before = runtime.clock() - timedelta(days=runtime.settings.INBOX_RETENTION_DAYS)
    deleted = 0
    for _ in range(DELETED_A_RUN):
        with runtime.database.transaction() as session:
            slice_ = inbox.delete_done(session, before)
        deleted += slice_
        if not slice_:
            break
    return deleted
