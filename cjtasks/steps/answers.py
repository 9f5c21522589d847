"""Callbacks are recorded under the lock of their batches, and each touched batch is decided about once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import structlog

from cjtasks.contracts.callback import Answer, read_callback
from cjtasks.domain.comparisons import (
    ComparisonStatus,
    Effect,
    backoff,
    effect_of_error,
    effect_of_success,
)
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import UnknownCorrelation, UnreadableMessage
from cjtasks.steps.progress import go_on
from cjtasks.steps.turn import Turn
from cjtasks.store import batches, comparisons, dead_letters
from cjtasks.store.comparisons import Change, Open

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.store.inbox import Message
    from cjtasks.store.models import CJBatchState

log = structlog.get_logger()

_JITTER = random.Random()
_COPIED = {f.name for f in fields(Answer)} & {f.name for f in fields(Change)}


def record(runtime: Runtime, session: Session, messages: Sequence[Message]) -> list[Bell]:
    """Record answers in the order in which they came; the first answer to a comparison wins."""
    now = runtime.clock()
    received = _read_all(session, messages)
    batch_of = comparisons.batches_of(session, {answer.correlation_id for _, answer in received})
    states = batches.lock_all(session, set(batch_of.values()))
    # Read after the locks: a batch that was deleted while we waited has no comparisons any more.
    pairs = comparisons.read(session, batch_of.keys())
    known = _without_strangers(session, received, pairs)
    changes = _settle_all(known, pairs, states, now)
    changed = comparisons.record(session, changes.values())
    for correlation_id, change in changes.items():
        if change.id in changed:
            _count(states[batch_of[correlation_id]], pairs[correlation_id], change, now)
    turn = Turn(session, runtime.settings, now)
    return [bell for state in states.values() for bell in go_on(turn, state)]


def _read_all(session: Session, messages: Iterable[Message]) -> list[tuple[Message, Answer]]:
    received = []
    for message in messages:
        try:
            received.append((message, read_callback(message.payload)))
        except UnreadableMessage as error:
            dead_letters.set_aside(session, message, "UNREADABLE_CALLBACK", error.error_detail.message)
    return received


def _without_strangers(
    session: Session, received: Iterable[tuple[Message, Answer]], pairs: Mapping[UUID, Open]
) -> list[Answer]:
    known = []
    for message, answer in received:
        if answer.correlation_id in pairs:
            known.append(answer)
        else:
            detail = f"{UnknownCorrelation.code}: {answer.correlation_id}"
            dead_letters.set_aside(session, message, "UNKNOWN_CORRELATION", detail)
    return known


def _settle_all(
    answers: Iterable[Answer], pairs: Mapping[UUID, Open], states: Mapping[int, CJBatchState], now: datetime
) -> dict[UUID, Change]:
    """Return the last change of each comparison; a second answer meets what the first one left."""
    standing = dict(pairs)
    changes: dict[UUID, Change] = {}
    seen: Counter[str] = Counter()
    for answer in answers:
        pair = standing[answer.correlation_id]
        late = states[pair.batch_id].state is not BatchStateEnum.WAITING_CALLBACKS
        effect = _effect(pair, answer)
        seen[effect] += 1
        if effect in {Effect.DUPLICATE, Effect.STALE}:
            continue
        change = _change(pair, answer, effect, now) if not late else _late(pair, answer, effect, now)
        changes[answer.correlation_id] = change
        standing[answer.correlation_id] = replace(pair, standing=replace(pair.standing, status=change.status))
    log.debug("answers", **seen)
    return changes


def _effect(pair: Open, answer: Answer) -> Effect:
    if answer.error_code is None:
        return effect_of_success(pair.standing)
    return effect_of_error(pair.standing, answer.request_id, answer.error_code)


def _change(pair: Open, answer: Answer, effect: Effect, now: datetime) -> Change:
    change = Change(
        id=pair.id,
        status=pair.standing.status,
        next_attempt_at=pair.next_attempt_at,
        submitted_at=pair.submitted_at or now,
        **{name: getattr(answer, name) for name in _COPIED},
    )
    match effect:
        case Effect.JUDGED:
            return replace(change, status=ComparisonStatus.COMPLETED, completed_at=now)
        case Effect.FAILED:
            return replace(change, status=ComparisonStatus.FAILED, completed_at=now)
        case Effect.ASK_AGAIN:
            again = now + backoff(pair.standing.attempt, _JITTER)
            return replace(change, status=ComparisonStatus.PLANNED, next_attempt_at=again)
        case _:
            return replace(change, last_error_request_id=answer.request_id)


def _late(pair: Open, answer: Answer, effect: Effect, now: datetime) -> Change:
    """Keep an answer that came after its batch had moved on: nobody asks again, and no counter changes."""
    if effect is Effect.ASK_AGAIN:
        effect = Effect.FAILED
    return replace(_change(pair, answer, effect, now), late=effect is not Effect.HELD)


def _count(state: CJBatchState, before: Open, change: Change, now: datetime) -> None:
    """Move the counters for a row that really changed; a late answer moves none but the submitted ones."""
    if before.submitted_at is None:
        # An answer that overtakes its 202 shows that the provider has accepted the comparison.
        state.submitted_comparisons += 1
        state.last_activity_at = now
    if change.late:
        return
    if change.status is ComparisonStatus.COMPLETED:
        state.completed_comparisons += 1
        state.last_activity_at = now
    elif change.status is ComparisonStatus.FAILED:
        state.failed_comparisons += 1
        state.last_activity_at = now
    elif change.status is ComparisonStatus.PLANNED:
        _submit_no_later_than(state, change.next_attempt_at)


def _submit_no_later_than(state: CJBatchState, when: datetime) -> None:
    if state.next_action_at is None or state.next_action is Work.PARTIAL:
        # A partial result goes first and then looks at what is planned.
        return
    if state.next_action is not Work.SUBMIT or state.next_action_at > when:
        batches.due(state, Work.SUBMIT, when)
