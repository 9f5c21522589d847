"""Small builders of rows and messages: one function a thing, with values that a test need not care about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import cycle, islice, permutations
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic_core import to_json
from sqlalchemy.dialects.postgresql import insert

from cjtasks.contracts.topics import CALLBACK_TOPIC
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.configuration import BatchConfiguration
from cjtasks.domain.states import FIRST_WORK, TERMINAL
from cjtasks.store.inbox import Message
from cjtasks.store.models import CJBatchState, CJBatchUpload, ComparisonPair, KafkaPosition, ProcessedEssay

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cjtasks.domain.states import BatchStateEnum

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""The moment at which a `SettableClock` starts."""

CONFIGURATION = BatchConfiguration(provider="openai", model="a-model", temperature=0.1)

_OF_STATUS: dict[ComparisonStatus, dict[str, Any]] = {
    ComparisonStatus.PLANNED: {},
    ComparisonStatus.CLAIMED: {"lease_until": NOW + timedelta(seconds=90)},
    ComparisonStatus.IN_FLIGHT: {"attempt": 1, "submitted_at": NOW},
    ComparisonStatus.COMPLETED: {"attempt": 1, "submitted_at": NOW, "completed_at": NOW, "winner": "essay_a"},
    ComparisonStatus.FAILED: {"attempt": 3, "submitted_at": NOW, "completed_at": NOW, "error_code": "TIMEOUT"},
}


def batch_in(session: Session, state: BatchStateEnum, essays: int = 4, **columns: Any) -> CJBatchState:
    """Store a batch of essays with texts; its first work is due at NOW unless the columns say otherwise."""
    upload = CJBatchUpload(
        bos_batch_id=str(uuid4()),
        event_correlation_id=str(uuid4()),
        language="en",
        course_code="ENG5",
        user_id="teacher-1",
        expected_essay_count=essays,
        configuration=CONFIGURATION.model_dump(),
        created_at=NOW,
        essays=[_essay(number) for number in range(essays)],
    )
    due = {} if state in TERMINAL else {"next_action": FIRST_WORK[state], "next_action_at": NOW}
    defaults = {"total_budget": 1000, "last_activity_at": NOW, "completion_threshold_pct": 95, **due}
    row = CJBatchState(batch_upload=upload, state=state, **{**defaults, **columns})
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def _essay(number: int) -> ProcessedEssay:
    return ProcessedEssay(
        els_essay_id=f"essay-{number}",
        position=number,
        text_storage_id=f"{number:032x}",
        assessment_input_text="A thought. " * (number + 1),
    )


def comparisons(
    session: Session, state: CJBatchState, count: int, status: ComparisonStatus, **columns: Any
) -> list[ComparisonPair]:
    """Add comparisons of one status to the iteration of a batch, and count them in its counters."""
    first = state.total_comparisons
    essays = cycle(permutations([essay.els_essay_id for essay in state.batch_upload.essays], 2))
    pairs = [
        _pair(state, first + number, status, dict(zip(("essay_a_els_id", "essay_b_els_id"), two, strict=True)))
        for number, two in enumerate(islice(essays, first, first + count))
    ]
    for pair in pairs:
        for name, value in columns.items():
            setattr(pair, name, value)
    session.add_all(pairs)
    state.current_iteration = state.current_iteration or 1
    state.total_comparisons += count
    state.submitted_comparisons += sum(pair.submitted_at is not None for pair in pairs)
    state.completed_comparisons += count if status is ComparisonStatus.COMPLETED else 0
    state.failed_comparisons += count if status is ComparisonStatus.FAILED else 0
    session.flush()
    return pairs


def _pair(state: CJBatchState, ordinal: int, status: ComparisonStatus, essays: dict[str, str]) -> ComparisonPair:
    accepted = status not in {ComparisonStatus.PLANNED, ComparisonStatus.CLAIMED}
    return ComparisonPair(
        cj_batch_id=state.batch_id,
        iteration=state.current_iteration or 1,
        ordinal=ordinal,
        request_correlation_id=uuid4(),
        status=status,
        next_attempt_at=NOW,
        claim_token=uuid4() if status is ComparisonStatus.CLAIMED else None,
        request_id=str(uuid4()) if accepted else None,
        **essays,
        **_OF_STATUS[status],
    )


def success(pair: ComparisonPair, winner: str = "Essay A", **data: Any) -> bytes:
    """Write the callback that names a winner."""
    return _callback(pair, {"winner": winner, "justification": "Clearer.", "confidence": 4.0, **data})


def failure(pair: ComparisonPair, code: str = "RATE_LIMIT", **data: Any) -> bytes:
    """Write the callback that brings an error of the comparison's current request."""
    detail = {
        "error_code": code,
        "message": "no verdict",
        "correlation_id": str(pair.request_correlation_id),
        "timestamp": "2026-03-02T09:00:01Z",
        "service": "llm_provider_service",
        "operation": "provider_call",
        "details": {},
    }
    return _callback(pair, {"error_detail": detail, **data})


def _callback(pair: ComparisonPair, answer: dict[str, Any]) -> bytes:
    data = {
        "request_id": pair.request_id or "a-request",
        "correlation_id": str(pair.request_correlation_id),
        "provider": "openai",
        "model": "a-model",
        "response_time_ms": 12,
        "cost_estimate": 0.01,
        "requested_at": "2026-03-02T09:00:00Z",
        "completed_at": "2026-03-02T09:00:01Z",
        **answer,
    }
    return to_json(
        {"event_type": "LLMComparisonResultV1", "source_service": "llm_provider_service", "schema_version": 1}
        | {"data": data}
    )


def messages(*payloads: bytes, received_at: datetime = NOW) -> list[Message]:
    return [Message("a-topic", 0, offset, payload, received_at) for offset, payload in enumerate(payloads)]


def caught_up(session: Session, at: datetime | None, partition: int = 0, topic: str = CALLBACK_TOPIC) -> None:
    """Say, as the consumer does, when all answers of a partition were in the inbox."""
    row = insert(KafkaPosition).values(topic=topic, partition=partition, next_offset=0, caught_up_at=at)
    session.execute(row.on_conflict_do_update(index_elements=["topic", "partition"], set_={"caught_up_at": at}))
