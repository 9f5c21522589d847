"""Callbacks are recorded under the lock of their batches, and each touched batch is decided about once."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from cjtasks.contracts.callback import read_callback
from cjtasks.domain.comparisons import (
    ComparisonStatus,
    Effect,
    backoff,
    effect_of_error,
    effect_of_success,
)
from cjtasks.errors import UnknownCorrelation, UnreadableMessage
from cjtasks.steps.progress import go_on_where_due
from cjtasks.steps.turn import Turn
from cjtasks.store import batches, dead_letters, recording
from cjtasks.store.recording import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cjtasks.contracts.callback import Answer
    from cjtasks.domain.comparisons import Standing
    from cjtasks.domain.states import Bell
    from cjtasks.runtime import Runtime
    from cjtasks.store.inbox import Message
    from cjtasks.store.recording import Found

log = structlog.get_logger()

_JITTER = random.Random()


def record(runtime: Runtime, session: Session, messages: Sequence[Message]) -> list[Bell]:
    """Record answers in the order in which they came; the first answer to a comparison wins."""
    now = runtime.clock()
    received = _read_all(session, messages)
    found = recording.lock_and_find(session, [answer.correlation_id for _, answer in received])
    known = _without_strangers(session, received, found)
    changes = _settle_all(known, now)
    batches.submit_no_later_than(session, _asked_again_at(changes))
    progress = recording.record(session, changes, now)
    return go_on_where_due(Turn(session, runtime.settings, now), progress)


def _read_all(session: Session, messages: Iterable[Message]) -> list[tuple[Message, Answer]]:
    received = []
    for message in messages:
        try:
            received.append((message, read_callback(message.payload)))
        except UnreadableMessage as error:
            dead_letters.set_aside(session, message, "UNREADABLE_CALLBACK", error.error_detail.message)
    return received


def _without_strangers(
    session: Session, received: Iterable[tuple[Message, Answer]], found: Iterable[Found | None]
) -> list[tuple[Answer, Found]]:
    known = []
    for (message, answer), pair in zip(received, found, strict=True):
        if pair is not None:
            known.append((answer, pair))
        else:
            detail = f"{UnknownCorrelation.code}: {answer.correlation_id}"
            dead_letters.set_aside(session, message, "UNKNOWN_CORRELATION", detail)
    return known


def _settle_all(known: Iterable[tuple[Answer, Found]], now: datetime) -> list[Change]:
    """Return the last change of each comparison; a second answer meets what the first one left."""
    changes: dict[int, Change] = {}
    seen: Counter[str] = Counter()
    for answer, pair in known:
        before = changes.get(pair.id)
        standing = pair.standing if before is None else pair.standing._replace(status=before.status)
        effect = _effect(standing, answer)
        seen[effect] += 1
        if effect not in {Effect.DUPLICATE, Effect.STALE}:
            changes[pair.id] = _change(pair, answer, effect, now)
    log.debug("answers", **seen)
    return list(changes.values())


def _effect(standing: Standing, answer: Answer) -> Effect:
    if answer.error_code is None:
        return effect_of_success(standing)
    return effect_of_error(standing, answer.request_id, answer.error_code)


def _change(pair: Found, answer: Answer, effect: Effect, now: datetime) -> Change:
    """Tell what becomes of a comparison; once its batch has moved on, nobody asks again and the answer is late."""
    late = not pair.counts
    match effect:
        case Effect.JUDGED:
            return Change(pair, answer, ComparisonStatus.COMPLETED, late=late)
        case Effect.HELD:
            return Change(pair, answer, pair.standing.status, is_held=True)
        case Effect.ASK_AGAIN if not late:
            again = now + backoff(pair.standing.attempt, _JITTER)
            return Change(pair, answer, ComparisonStatus.PLANNED, next_attempt_at=again)
        case _:
            return Change(pair, answer, ComparisonStatus.FAILED, late=late)


def _asked_again_at(changes: Iterable[Change]) -> dict[int, datetime]:
    """Return by batch the earliest moment at which a comparison is asked again."""
    earliest: dict[int, datetime] = {}
    for change in changes:
        if change.next_attempt_at is not None:
            batch_id = change.found.batch_id
            earliest[batch_id] = min(change.next_attempt_at, earliest.get(batch_id, change.next_attempt_at))
    return earliest
