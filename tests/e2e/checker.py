"""What must hold once every batch has ended, whatever happened on the way."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import joinedload

from cjtasks.domain.comparisons import MAX_ATTEMPTS, OPEN, ComparisonStatus
from cjtasks.domain.states import TERMINAL, BatchStateEnum
from cjtasks.store.models import (
    CJBatchState,
    ComparisonPair,
    DeadLetterRow,
    InboxRow,
    KafkaPosition,
    OutboxEvent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from cjtasks.store.session import Database

    from .events import Event


@dataclass(frozen=True)
class Rows:
    """The comparisons of one batch, counted; late ones count as planned and submitted only."""

    total: int
    submitted: int
    completed: int
    failed: int
    open: int


NO_ROWS = Rows(0, 0, 0, 0, 0)


def check_everything(database: Database, events: Sequence[Event]) -> None:
    """Compare states, counters, inbox, outbox and Kafka with each other, and tell all that does not fit."""
    with database.transaction() as session:
        states = session.scalars(select(CJBatchState).options(joinedload(CJBatchState.batch_upload))).all()
        problems = [
            *_state_problems(states, _rows_of_batches(session)),
            *_inbox_problems(session),
            *_outbox_problems(session, events),
            *_event_problems(states, events),
        ]
    assert not problems, "\n".join(problems)


def _rows_of_batches(session: Session) -> Mapping[int, Rows]:
    status, on_time = ComparisonPair.status, ComparisonPair.late.is_(False)
    counted = session.execute(
        select(
            ComparisonPair.cj_batch_id,
            func.count(),
            func.count(ComparisonPair.submitted_at),
            func.count().filter(status == ComparisonStatus.COMPLETED, on_time),
            func.count().filter(status == ComparisonStatus.FAILED, on_time),
            func.count().filter(status.in_(OPEN)),
        ).group_by(ComparisonPair.cj_batch_id)
    )
    return {batch_id: Rows(*counts) for batch_id, *counts in counted}


def _state_problems(states: Sequence[CJBatchState], rows: Mapping[int, Rows]) -> Iterator[str]:
    for state in states:
        name, found = f"batch {state.batch_id}", rows.get(state.batch_id, NO_ROWS)
        counters = Rows(
            state.total_comparisons,
            state.submitted_comparisons,
            state.completed_comparisons,
            state.failed_comparisons,
            0,
        )
        if state.state is not BatchStateEnum.COMPLETED:
            yield f"{name} is {state.state} ({state.stop_reason})"
        if state.state in TERMINAL and (state.next_action or state.next_action_at):
            yield f"{name} has ended and waits for {state.next_action} at {state.next_action_at}"
        if counters != found:
            yield f"{name} counts {counters}, its rows say {found}"


def _inbox_problems(session: Session) -> Iterator[str]:
    """Each message of a topic must be in the inbox once, up to the stored position, worked and not refused."""
    offsets: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for row in session.scalars(select(InboxRow)):
        if row.done_at is None:
            yield f"inbox row {row.id} of {row.topic} is undone after {row.attempts} attempts"
        for partition, offset in zip(row.partitions, row.offsets, strict=True):
            offsets[row.topic, partition][offset] += 1
    for place in session.scalars(select(KafkaPosition)):
        if offsets[place.topic, place.partition] != Counter(range(place.next_offset)):
            yield f"the inbox does not hold each message of {place.topic}[{place.partition}] once"
    for letter in session.scalars(select(DeadLetterRow)):
        yield f"dead letter {letter.id} from {letter.topic}: {letter.reason} {letter.detail}"


def _outbox_problems(session: Session, events: Sequence[Event]) -> Iterator[str]:
    """Kafka must hold what the outbox says that it holds, to the byte, and nothing else."""
    in_kafka: dict[str, set[bytes]] = defaultdict(set)
    for event in events:
        in_kafka[event.id].add(event.value)
    for row in session.scalars(select(OutboxEvent)):
        name, found = f"outbox row {row.id} ({row.kind})", in_kafka.pop(str(row.event_id), set())
        if row.published_at is None:
            yield f"{name} is unpublished"
        if found != {bytes(row.payload)}:
            yield f"{name} lies in Kafka in {len(found)} forms and should do so in one, its own"
    for event_id in in_kafka:
        yield f"the event {event_id} in Kafka was never in the outbox"


def _event_problems(states: Sequence[CJBatchState], events: Sequence[Event]) -> Iterator[str]:
    """Every batch has one event of each kind, told apart by its id, and every event has a batch."""
    found: dict[tuple[str, str], dict[str, Event]] = defaultdict(dict)
    for event in events:
        found[event.kind, event.key][event.id] = event
    for state in states:
        for kind, key in _keys(state).items():
            same = found.pop((kind, key), {})
            if len(same) != 1 and not (kind == "partial" and not same):
                yield f"batch {state.batch_id} has {len(same)} {kind} events"
            for event in same.values():
                yield from _told_wrongly(state, event)
    for kind, key in found:
        yield f"there is no batch for the {kind} event with the key {key}"


def _keys(state: CJBatchState) -> dict[str, str]:
    """Return the key of each event that a completed batch publishes; a partial result is made only if it is in time."""
    bos_batch_id, job_id = state.batch_upload.bos_batch_id, str(state.batch_id)
    keys = {"completed": bos_batch_id, "consumption": bos_batch_id, "result": job_id}
    return {**keys, "partial": bos_batch_id} if state.partial_scoring_triggered else keys


def _told_wrongly(state: CJBatchState, event: Event) -> Iterator[str]:
    upload, counted = state.batch_upload, state.completed_comparisons
    name = f"the {event.kind} event of batch {state.batch_id}"
    if event.envelope["correlation_id"] != upload.event_correlation_id:
        yield f"{name} has another correlation id than its request"
    if event.data["entity_id"] != upload.bos_batch_id:
        yield f"{name} names the entity {event.data['entity_id']}"
    if event.kind == "consumption" and event.data["quantity"] != counted:
        yield f"{name} charges {event.data['quantity']} comparisons of {counted}"


def check_requests(database: Database, stats: Mapping[str, int], lost: int = 0) -> None:
    """Compare what the provider was asked with our rows: nothing more often than its error answers explain.

    lost: how many requests at most may have been in the air when a submitter was killed.
    """
    with database.transaction() as session:
        rows, attempts, most = session.execute(
            select(func.count(), func.sum(ComparisonPair.attempt), func.max(ComparisonPair.attempt))
        ).one()
    assert (stats["invalid"], stats["refused"], stats["undelivered"]) == (0, 0, 0)
    assert stats["correlation_ids"] == rows
    assert most <= MAX_ATTEMPTS
    assert 0 <= stats["accepted"] - attempts <= lost
    assert stats["asked_again"] <= stats["errors"] + lost
