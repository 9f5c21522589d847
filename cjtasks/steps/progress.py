"""What follows a change of a batch's counters, in the same transaction and under the same lock."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from cjtasks.domain.decisions import Decision, Progress, decide
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import events
from cjtasks.store import batches
from cjtasks.store.comparisons import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cjtasks.settings import Settings
    from cjtasks.steps.turn import Turn
    from cjtasks.store.models import CJBatchState

log = structlog.get_logger()


def go_on(turn: Turn, state: CJBatchState) -> list[Bell]:
    """Decide about a locked batch and do it; WAIT leaves it as it is."""
    progress = batches.progress(state)
    decision = decide(progress, turn.settings.MIN_SUCCESS_RATE_THRESHOLD)
    if decision is Decision.ADVANCE:
        return batches.move(state, BatchStateEnum.GENERATING_PAIRS, turn.now)
    if decision is Decision.PARTIAL:
        state.partial_scoring_triggered = True
        return batches.due(state, Work.PARTIAL, turn.now)
    if decision is Decision.FAIL:
        log.warning("batch failed", cj_batch=state.batch_id, reason="low_success_rate")
        return events.fail(turn, state, _low_success_rate(state, progress, turn.settings))
    return []


def go_on_where_due(turn: Turn, moved: Mapping[int, Progress]) -> list[Bell]:
    """Decide about each batch whose counters moved under our lock, and read those rows only that do not wait on."""
    threshold = turn.settings.MIN_SUCCESS_RATE_THRESHOLD
    due = [batch_id for batch_id, now in moved.items() if decide(now, threshold) not in _NO_ACTION]
    states = batches.lock_all(turn.session, due) if due else {}
    return [bell for state in states.values() for bell in go_on(turn, state)]


_NO_ACTION = {Decision.WAIT, Decision.NOTHING}


def _low_success_rate(state: CJBatchState, progress: Progress, settings: Settings) -> dict[str, Any]:
    return {
        "reason": "low_success_rate",
        "details": {
            "callbacks_received": progress.processed,
            "completed_comparisons": progress.completed,
            "failed_comparisons": progress.failed,
            "success_rate": progress.success_rate,
            "success_rate_threshold": settings.MIN_SUCCESS_RATE_THRESHOLD,
            "callbacks_reached_cap": progress.processed >= progress.total,
            "budget_exhausted": state.total_comparisons >= state.total_budget,
        },
    }


def limits(settings: Settings) -> Limits:
    return Limits(settings.MAX_CONCURRENT_COMPARISONS, timedelta(minutes=settings.CALLBACK_TIMEOUT_MINUTES))
