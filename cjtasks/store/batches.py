"""Reading and moving the state row of a batch: who works on it, what is due, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import to_json
from sqlalchemy import exists, select, text

from cjtasks.domain.decisions import Progress
from cjtasks.domain.states import FIRST_WORK, BatchStateEnum, Bell, Work, check_arrow
from cjtasks.store.models import CJBatchState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Claim:
    """What a slow step read when it took a batch; it writes only if all of this still holds."""

    batch_id: int
    work: Work
    state: BatchStateEnum
    iteration: int
    version: int


def lock(session: Session, batch_id: int) -> CJBatchState | None:
    """Lock one state row; None when the batch was deleted."""
    return session.scalar(_locking(CJBatchState.batch_id == batch_id))


def lock_all(session: Session, batch_ids: Iterable[int]) -> dict[int, CJBatchState]:
    """Lock several state rows in the order of their ids, as everybody does, so that no two can deadlock."""
    rows = session.scalars(_locking(CJBatchState.batch_id.in_(sorted(batch_ids))).order_by(CJBatchState.batch_id))
    return {row.batch_id: row for row in rows}


def _locking(which: ColumnElement[bool]) -> Select[CJBatchState]:
    """Read under the lock: what the session knew of the row before may have changed while it waited."""
    return select(CJBatchState).where(which).with_for_update().execution_options(populate_existing=True)


def claim(session: Session, bell: Bell, now: datetime, lease: timedelta) -> Claim | None:
    """Take a due piece of work for `lease`; None when somebody else has it or it is not due.

    The lease moves `next_action_at`, so a second bell does nothing, and a crash only delays the work.
    """
    state = lock(session, bell.batch_id) if bell.batch_id is not None else None
    if state is None or state.next_action is not bell.work or state.next_action_at is None:
        return None
    if state.next_action_at > now:
        return None
    state.next_action_at = now + lease
    return _claim(state, bell.work)


def reclaim(session: Session, taken: Claim) -> CJBatchState | None:
    """Lock the row again to write; None when the batch moved on, or somebody else did this work, meanwhile."""
    state = lock(session, taken.batch_id)
    if state is None or state.next_action is None or taken != _claim(state, state.next_action):
        return None
    return state


def _claim(state: CJBatchState, work: Work) -> Claim:
    return Claim(state.batch_id, work, state.state, state.current_iteration, state.version)


def any_due(session: Session, work: Work, now: datetime) -> bool:
    """Tell whether this kind of work is due for any batch, whoever holds its lock."""
    due_now = exists().where(CJBatchState.next_action_at <= now, CJBatchState.next_action == work)
    return bool(session.scalar(select(due_now)))


def oldest_due(session: Session, work: Work, now: datetime) -> int | None:
    """Return the batch that has waited longest for this kind of work and is not being worked on."""
    return session.scalar(
        select(CJBatchState.batch_id)
        .where(CJBatchState.next_action_at <= now, CJBatchState.next_action == work)
        .order_by(CJBatchState.next_action_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def move(state: CJBatchState, target: BatchStateEnum, now: datetime) -> list[Bell]:
    """Move a locked batch along an arrow, make the first work of the new state due, and return its bell."""
    check_arrow(state.state, target)
    state.state = target
    state.state_since = now
    state.version += 1
    state.last_activity_at = now
    return due(state, FIRST_WORK[target], now)


def due(state: CJBatchState, work: Work | None, when: datetime) -> list[Bell]:
    """Set what a locked batch waits for; nothing more once it is terminal."""
    state.next_action = work
    state.next_action_at = when if work else None
    if work is None:
        return []
    return [Bell(work, None if work is Work.SUBMIT else state.batch_id)]


# What a batch waits for already may be a submission that comes sooner. A partial result goes first and then looks at
# what is planned.
_SUBMIT_NO_LATER_THAN = text(
    """
    UPDATE cj_batch_states SET next_action = 'submit', next_action_at = wanted.at
    FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS wanted(id bigint, at timestamptz)
    WHERE batch_id = wanted.id AND next_action <> 'partial' AND (next_action <> 'submit' OR next_action_at > wanted.at)
    """
)


def submit_no_later_than(session: Session, wanted: Mapping[int, datetime]) -> None:
    """Make the submission of locked batches due at these moments, unless something else comes first."""
    if wanted:
        rows = [{"id": batch_id, "at": when} for batch_id, when in wanted.items()]
        session.execute(_SUBMIT_NO_LATER_THAN, {"wanted": to_json(rows).decode()})


def progress(state: CJBatchState) -> Progress:
    return Progress(
        state.state,
        state.total_comparisons,
        state.completed_comparisons,
        state.failed_comparisons,
        None if state.partial_scoring_triggered else state.completion_threshold_pct,
    )
