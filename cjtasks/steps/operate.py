"""What an operator may do to a batch: cancel it, ask its failed comparisons again, recount it.

Each action leaves a line that says who, when and why, and refuses when the batch changed since it was looked at.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import func, select, update

from cjtasks.contracts import results
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import LIVE, BatchStateEnum, Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.steps import events
from cjtasks.steps.progress import go_on
from cjtasks.steps.turn import Turn
from cjtasks.store import batches
from cjtasks.store.models import CJBatchState, ComparisonPair, OperatorAction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime

log = structlog.get_logger()

RETRYABLE = frozenset({BatchStateEnum.WAITING_CALLBACKS, BatchStateEnum.FAILED})


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants something done to which batch and why; `version` is that of the batch when it was looked at."""

    batch_id: int
    operator: str
    reason: str
    version: int


@dataclass(frozen=True, slots=True)
class Counts:
    """A batch's counters, in comparisons."""

    total: int
    submitted: int
    completed: int
    failed: int


def cancel(runtime: Runtime, order: Order) -> list[Bell]:
    """Stop a live batch: nothing more is asked, and its one closing event tells what was spent."""
    with runtime.database.transaction() as session:
        turn = Turn(session, runtime.settings, runtime.clock())
        state = _lock(session, order)
        if state.state not in LIVE:
            raise _refused(f"batch {order.batch_id} is {state.state} already")
        spent = _spent(session, state)
        bells = batches.move(state, BatchStateEnum.CANCELLED, turn.now)
        state.stop_reason = "cancelled"
        state.batch_upload.completed_at = turn.now
        context = events.context_of(state.batch_upload, turn.now)
        info = {"reason": "cancelled", "details": spent}
        events.publish(turn, results.failed(context, info, results.CANCELLED), state)
        _note(turn, order, "cancel", spent)
        return bells


def retry(runtime: Runtime, order: Order) -> list[Bell]:
    """Ask the failed comparisons of a waiting or failed batch again; a failed one gets a new version of its result.

    A failed batch goes on wherever it stood: what was never answered is waited for, what came late counts.
    """
    with runtime.database.transaction() as session:
        turn = Turn(session, runtime.settings, runtime.clock())
        state = _lock(session, order)
        if state.state not in RETRYABLE:
            raise _refused(f"batch {order.batch_id} is {state.state}: only a waiting or failed one can be retried")
        again = _plan_failed_again(turn, state)
        bells = _open_again(turn, state) if state.state is BatchStateEnum.FAILED else _submit_again(turn, state, again)
        _note(turn, order, "retry", {"comparisons": again, "result_version": state.result_version})
        return bells


def _submit_again(turn: Turn, state: CJBatchState, again: int) -> list[Bell]:
    if not again:
        raise _refused(f"batch {state.batch_id} has no failed comparison")
    state.version += 1
    _set_counts(state, count(turn.session, state.batch_id))
    # A first ranking that is due is written first, and then looks at what is planned.
    work = Work.PARTIAL if state.next_action is Work.PARTIAL else Work.SUBMIT
    return batches.due(state, work, turn.now)


def _open_again(turn: Turn, state: CJBatchState) -> list[Bell]:
    if not state.total_comparisons:
        raise _refused(f"batch {state.batch_id} failed before it had a comparison")
    _count_late_answers(turn.session, state)
    _set_counts(state, count(turn.session, state.batch_id))
    state.result_version += 1
    state.stop_reason = state.batch_upload.completed_at = None
    bells = batches.move(state, BatchStateEnum.WAITING_CALLBACKS, turn.now)
    # Nothing may be missing any more: then there is nothing to wait for.
    return [*bells, *go_on(turn, state)]


def _plan_failed_again(turn: Turn, state: CJBatchState) -> int:
    planned = turn.session.scalars(
        update(ComparisonPair)
        .where(ComparisonPair.cj_batch_id == state.batch_id, ComparisonPair.status == ComparisonStatus.FAILED)
        .values(
            status=ComparisonStatus.PLANNED,
            attempt=0,
            refusals=0,
            next_attempt_at=turn.now,
            late=False,
            error_code=None,
            error_message=None,
            error_service=None,
            error_details=None,
            completed_at=None,
        )
        .returning(ComparisonPair.id)
    )
    return len(planned.all())


def _count_late_answers(session: Session, state: CJBatchState) -> None:
    """Let answers that came after the failure count from now on, because the batch waits for them again."""
    session.execute(
        update(ComparisonPair)
        .where(ComparisonPair.cj_batch_id == state.batch_id, ComparisonPair.late.is_(True))
        .values(late=False)
    )


def recount(runtime: Runtime, order: Order) -> tuple[Counts, Counts]:
    """Rebuild the counters from the rows; return what the state row said and what the rows say.

    A batch that waited because it was counted wrongly goes on: the sweep rings for what is then due.
    """
    with runtime.database.transaction() as session:
        turn = Turn(session, runtime.settings, runtime.clock())
        state = _lock(session, order)
        before, after = _counts(state), count(session, state.batch_id)
        if before != after:
            _set_counts(state, after)
            state.version += 1
            _note(turn, order, "recount", {"before": asdict(before), "after": asdict(after)})
            log.error("counters differed from rows", cj_batch=state.batch_id)
            go_on(turn, state)
        return before, after


def all_ids(session: Session) -> list[str]:
    """Return the ids of all batches, as text."""
    return [
        str(batch_id) for batch_id in session.scalars(select(CJBatchState.batch_id).order_by(CJBatchState.batch_id))
    ]


def count(session: Session, batch_id: int) -> Counts:
    """Count a batch's rows; answers that came too late are left out."""
    status, in_time = ComparisonPair.status, ComparisonPair.late.is_(False)
    row = session.execute(
        select(
            func.count(),
            func.count().filter(ComparisonPair.submitted_at.is_not(None)),
            func.count().filter(status == ComparisonStatus.COMPLETED, in_time),
            func.count().filter(status == ComparisonStatus.FAILED, in_time),
        ).where(ComparisonPair.cj_batch_id == batch_id)
    ).one()
    return Counts(*row)


def _counts(state: CJBatchState) -> Counts:
    return Counts(
        state.total_comparisons, state.submitted_comparisons, state.completed_comparisons, state.failed_comparisons
    )


def _set_counts(state: CJBatchState, counts: Counts) -> None:
    state.total_comparisons = counts.total
    state.submitted_comparisons = counts.submitted
    state.completed_comparisons = counts.completed
    state.failed_comparisons = counts.failed


def _lock(session: Session, order: Order) -> CJBatchState:
    state = batches.lock(session, order.batch_id)
    if state is None:
        raise _refused(f"there is no batch {order.batch_id}")
    if state.version != order.version:
        raise _refused(f"batch {order.batch_id} changed since you looked: it is {state.state} now, look again")
    return state


def _refused(message: str) -> OperationRefused:
    return OperationRefused.of(message, operation="operate")


def _spent(session: Session, state: CJBatchState) -> dict[str, Any]:
    cost, tokens = session.execute(
        select(func.sum(ComparisonPair.cost), func.sum(ComparisonPair.total_tokens)).where(
            ComparisonPair.cj_batch_id == state.batch_id
        )
    ).one()
    return {
        "submitted_comparisons": state.submitted_comparisons,
        "completed_comparisons": state.completed_comparisons,
        "failed_comparisons": state.failed_comparisons,
        "cost": float(cost or 0.0),
        "total_tokens": int(tokens or 0),
    }


def _note(turn: Turn, order: Order, action: str, details: dict[str, Any]) -> None:
    turn.session.add(
        OperatorAction(
            batch_id=order.batch_id,
            action=action,
            operator=order.operator,
            reason=order.reason,
            details=details,
            acted_at=turn.now,
        )
    )
    log.info("operator acted", action=action, cj_batch=order.batch_id, operator=order.operator)
