"""Why a batch is not done: its state, what it waits for, and what happens next by itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import TERMINAL, BatchStateEnum, Work
from cjtasks.steps.monitor import BEHIND, is_behind
from cjtasks.store import gate, inbox
from cjtasks.store.models import ComparisonPair, OutboxEvent, ProcessedEssay

if TYPE_CHECKING:
    from datetime import datetime

    from cjtasks.steps.turn import Turn
    from cjtasks.store.models import CJBatchState

NEXT_STEP = {
    Work.PREPARE: "a submitter fetches the missing texts",
    Work.ADVANCE: "a scorer fits what was judged and stops or plans more comparisons",
    Work.SUBMIT: "a submitter sends the planned comparisons",
    Work.CHECK: "a scorer asks again what was not answered in time",
    Work.PARTIAL: "a scorer writes a first ranking and its event",
    Work.SCORE: "a scorer writes the scores and the closing events",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an operator needs to know; times are ISO 8601 with a zone, None where there is none."""

    batch: int
    state: str
    since: str
    version: int
    waits_for: list[str]
    next_step: str | None
    next_step_at: str | None
    stop_reason: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(turn: Turn, state: CJBatchState) -> Explanation:
    work, when = state.next_action, state.next_action_at
    return Explanation(
        batch=state.batch_id,
        state=state.state.value,
        since=state.state_since.isoformat(),
        version=state.version,
        waits_for=[*_waits_for(turn, state), *_ourselves(turn, state)],
        next_step=NEXT_STEP[work] if work else None,
        next_step_at=when.isoformat() if when else None,
        stop_reason=state.stop_reason,
    )


def _waits_for(turn: Turn, state: CJBatchState) -> list[str]:
    if state.state is BatchStateEnum.INITIALIZING:
        return _texts(turn, state)
    if state.state is BatchStateEnum.WAITING_CALLBACKS:
        return _comparisons(turn, state)
    if state.state in TERMINAL:
        return _events(turn, state)
    overdue = state.next_action_at is not None and state.next_action_at < turn.now - BEHIND
    return ["a scorer: none has taken it for a minute, is one running?"] if overdue else ["a scorer"]


def _texts(turn: Turn, state: CJBatchState) -> list[str]:
    rows = turn.session.execute(
        select(ProcessedEssay.fetch_error, func.count())
        .where(ProcessedEssay.cj_batch_id == state.batch_id, ProcessedEssay.next_attempt_at.is_not(None))
        .group_by(ProcessedEssay.fetch_error)
        .order_by(ProcessedEssay.fetch_error)
    )
    return [f"{count} texts" + (f" (last answer: {error})" if error else "") for error, count in rows]


def _comparisons(turn: Turn, state: CJBatchState) -> list[str]:
    status = ComparisonPair.status
    planned, refused, claimed, flying, oldest = turn.session.execute(
        select(
            func.count().filter(status == ComparisonStatus.PLANNED),
            func.count().filter(status == ComparisonStatus.PLANNED, ComparisonPair.refusals > 0),
            func.count().filter(status == ComparisonStatus.CLAIMED),
            func.count().filter(status == ComparisonStatus.IN_FLIGHT),
            func.min(ComparisonPair.submitted_at).filter(status == ComparisonStatus.IN_FLIGHT),
        ).where(ComparisonPair.cj_batch_id == state.batch_id)
    ).one()
    found = [
        (flying, f"{flying} answers; the oldest was asked for {_ago(oldest, turn.now)}"),
        (planned, f"{planned} comparisons to be sent, {refused} of them refused by the provider before"),
        (claimed, f"{claimed} comparisons that a submitter has in its hands"),
    ]
    return [text for count, text in found if count] + _gate(turn, planned)


def _gate(turn: Turn, planned: int) -> list[str]:
    until = gate.closed_until(turn.session, turn.now) if planned else None
    return [f"the provider, which asked for a pause until {until.isoformat()}"] if until else []


def _events(turn: Turn, state: CJBatchState) -> list[str]:
    waiting = turn.session.scalar(
        select(func.count()).where(OutboxEvent.batch_id == state.batch_id, OutboxEvent.published_at.is_(None))
    )
    return [f"the relay, to publish {waiting} events"] if waiting else []


def _ourselves(turn: Turn, state: CJBatchState) -> list[str]:
    """Tell what is the matter with us rather than with the batch."""
    if state.state in TERMINAL:
        return []
    oldest = inbox.oldest_undone(turn.session)
    if oldest is not None and oldest < turn.now - BEHIND:
        return [f"our own inbox: its oldest undone row came {_ago(oldest, turn.now)}, is a worker running?"]
    if is_behind(turn.session, turn.settings, turn.now):
        return ["our own consumer: it has not caught up with the callback topic, so no deadline acts"]
    return []


def _ago(moment: datetime | None, now: datetime) -> str:
    return "never" if moment is None else f"{max((now - moment).total_seconds(), 0):.0f} s ago"
