"""What the provider said at once to each claimed comparison, recorded where the claim still holds."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from pydantic_core import to_json
from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus, Effect, after_error, backoff
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import ProviderRefused, ProviderRejected
from cjtasks.steps.progress import go_on, limits
from cjtasks.steps.turn import Turn
from cjtasks.store import batches, claims, comparisons, gate, inbox
from cjtasks.store.claims import Acceptance
from cjtasks.store.inbox import Kind, Message
from cjtasks.store.models import ComparisonPair

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

    from cjtasks.clients.llm_provider import Submission
    from cjtasks.runtime import Runtime
    from cjtasks.store.models import CJBatchState

log = structlog.get_logger()

_JITTER = random.Random()

OVER_HTTP = "http"
"""Stands for the topic of an answer that came in the response itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The provider's word on one comparison: accepted, an error, or neither when nothing was sent."""

    pair_id: int
    batch_id: int
    prompt_sha256: str
    submission: Submission | None = None
    error: ProviderRefused | ProviderRejected | None = None


def record(runtime: Runtime, session: Session, token: UUID, results: Sequence[Outcome]) -> list[Bell]:
    """Record all outcomes of one claim and say what is due next for each of its batches."""
    turn = Turn(session, runtime.settings, runtime.clock())
    states = batches.lock_all(session, {outcome.batch_id for outcome in results})
    recorded = _accept_all(turn, token, results, states)
    rest = [outcome for outcome in results if outcome.pair_id not in recorded]
    pairs = _still_claimed(session, token, rest)
    for outcome in rest:
        pair = pairs.get(outcome.pair_id)
        if pair is not None:
            _apply(turn, states[outcome.batch_id], pair, outcome)
    session.flush()
    _work_the_gate(turn, results)
    bells = [bell for state in states.values() for bell in go_on(turn, state)]
    _make_due(turn, states)
    if any(outcome.submission and outcome.submission.result for outcome in results):
        bells.append(Bell(Work.INBOX))
    return bells


def _accept_all(
    turn: Turn, token: UUID, results: Sequence[Outcome], states: Mapping[int, CJBatchState]
) -> Collection[int]:
    """Record what was simply taken, in one statement; return the ids of these comparisons."""
    accepted = [
        Acceptance(one.pair_id, one.submission.queue_id, one.prompt_sha256)
        for one in results
        if one.submission is not None and one.submission.queue_id is not None
    ]
    is_first = claims.accept(turn.session, token, turn.now, accepted)
    for outcome in results:
        if is_first.get(outcome.pair_id):
            _count_first(turn, states[outcome.batch_id])
    return is_first.keys()


def _count_first(turn: Turn, state: CJBatchState) -> None:
    state.submitted_comparisons += 1
    state.last_activity_at = turn.now


def _still_claimed(session: Session, token: UUID, results: Sequence[Outcome]) -> dict[int, ComparisonPair]:
    if not results:
        return {}
    rows = session.scalars(
        select(ComparisonPair).where(
            ComparisonPair.id.in_([outcome.pair_id for outcome in results]),
            ComparisonPair.claim_token == token,
        )
    )
    return {pair.id: pair for pair in rows}


def _apply(turn: Turn, state: CJBatchState, pair: ComparisonPair, outcome: Outcome) -> None:
    pair.claim_token = pair.lease_until = None
    pair.prompt_sha256 = outcome.prompt_sha256
    if outcome.submission is not None:
        _accept(turn, state, pair, outcome.submission)
    elif pair.status is not ComparisonStatus.CLAIMED:
        # Its answer came while the request still looked refused; the answer counts.
        return
    elif isinstance(outcome.error, ProviderRejected):
        _fail(state, pair, outcome.error, turn.now)
    else:
        _plan_again(pair, outcome.error, turn.now)


def _accept(turn: Turn, state: CJBatchState, pair: ComparisonPair, submission: Submission) -> None:
    if pair.submitted_at is None:
        _count_first(turn, state)
    pair.attempt += 1
    pair.refusals = 0
    pair.submitted_at = turn.now
    pair.request_id = submission.queue_id
    if submission.result is not None:
        pair.request_id = str(submission.result.get("request_id", ""))
        _receive(turn, submission.result)
    if pair.status is not ComparisonStatus.CLAIMED:
        return
    if pair.last_error_request_id is not None and pair.last_error_request_id == pair.request_id:
        _apply_held_error(state, pair, turn.now)
    else:
        pair.status = ComparisonStatus.IN_FLIGHT


def _receive(turn: Turn, result: Mapping[str, object]) -> None:
    """Send an answer that came with HTTP 200 the way that every callback goes."""
    envelope = {
        "event_type": "LLMComparisonResultV1",
        "source_service": "llm_provider_service",
        "data": result,
    }
    message = Message(OVER_HTTP, 0, 0, to_json(envelope), turn.now)
    inbox.write(turn.session, Kind.CALLBACK, [message])


def _apply_held_error(state: CJBatchState, pair: ComparisonPair, now: datetime) -> None:
    """Its error overtook this acceptance and was held on the row until now."""
    effect = after_error(pair.attempt, pair.error_code or "")
    if effect is Effect.ASK_AGAIN and state.state is BatchStateEnum.WAITING_CALLBACKS:
        pair.status = ComparisonStatus.PLANNED
        pair.next_attempt_at = now + backoff(pair.attempt, _JITTER)
    else:
        _end(state, pair, now)


def _fail(state: CJBatchState, pair: ComparisonPair, error: ProviderRejected, now: datetime) -> None:
    pair.error_code = error.error_code
    pair.error_message = error.error_detail.message
    pair.error_service = "llm_provider_service"
    pair.error_details = dict(error.error_detail.details)
    _end(state, pair, now)


def _end(state: CJBatchState, pair: ComparisonPair, now: datetime) -> None:
    pair.status = ComparisonStatus.FAILED
    pair.completed_at = now
    if state.state is BatchStateEnum.WAITING_CALLBACKS:
        state.failed_comparisons += 1
        state.last_activity_at = now
    else:
        pair.late = True


def _plan_again(pair: ComparisonPair, refused: ProviderRefused | None, now: datetime) -> None:
    """Use up no attempt: an outage of the provider fails no comparison before its batch's deadline."""
    pair.status = ComparisonStatus.PLANNED
    pair.next_attempt_at = now
    if refused is not None:
        pair.refusals += 1
        pair.next_attempt_at = now + backoff(pair.refusals, _JITTER, refused.retry_after)


def _work_the_gate(turn: Turn, results: Sequence[Outcome]) -> None:
    refusals = [one.error for one in results if isinstance(one.error, ProviderRefused)]
    closing = [refused for refused in refusals if refused.closes_gate]
    if closing:
        retry_after = max((refused.retry_after or 0.0 for refused in closing), default=0.0)
        gate.close(turn.session, turn.now, retry_after or None)
        log.warning("provider gate closed", code=closing[0].error_code, refusals=len(closing))
    elif any(one.submission or isinstance(one.error, ProviderRejected) for one in results):
        # A rejection too shows a provider that looks at what it is asked.
        gate.open_(turn.session)


def _make_due(turn: Turn, states: Mapping[int, CJBatchState]) -> None:
    waiting = [
        batch_id
        for batch_id, state in states.items()
        if state.state is BatchStateEnum.WAITING_CALLBACKS and not _is_due_already(state, turn.now)
    ]
    if not waiting:
        return
    upcoming = comparisons.what_next(turn.session, waiting, turn.now, limits(turn.settings))
    for batch_id, (work, when) in upcoming.items():
        batches.due(states[batch_id], work, when)


def _is_due_already(state: CJBatchState, now: datetime) -> bool:
    """Tell whether the next step of a batch looks at its comparisons anyway and says then what is due."""
    return state.next_action is Work.PARTIAL or (
        state.next_action is Work.SUBMIT and state.next_action_at is not None and state.next_action_at <= now
    )
