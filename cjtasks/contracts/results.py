"""The events that we publish: plain values in, the platform's payloads and envelopes out.

Every event tells of one batch at one moment: all of its times are `EventContext.now`,
but for the batch's start.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from cjtasks.contracts.envelope import EventEnvelope, as_utc, write_envelope
from cjtasks.contracts.storable import storable, without_nul
from cjtasks.contracts.topics import EVENT_TYPES
from cjtasks.errors import SERVICE, ErrorDetail

INITIALIZATION_FAILED: Final = "INITIALIZATION_FAILED"
"""The job id of a request for which no batch was opened."""

METHOD: Final = "cj_assessment"
RESOURCE: Final = "cj_comparison"
COMPLETED_SUCCESSFULLY: Final = "completed_successfully"
FAILED_CRITICALLY: Final = "failed_critically"
CANCELLED: Final = "cancelled"


@dataclass(frozen=True)
class EventContext:
    """Which batch an event tells of; `job_id` is our own id as text, times without a zone are UTC."""

    entity_id: str
    entity_type: str
    parent_id: str | None
    correlation_id: UUID
    job_id: str
    now: datetime
    started_at: datetime | None


@dataclass(frozen=True)
class Outgoing:
    """One event, ready for its envelope; `topic_key` is the Kafka key, `data` is JSON.

    `kind` is completed, failed, result or consumption.
    """

    kind: str
    topic_key: str
    event_type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class ProcessingSummary:
    """Which essays got a score; every essay of the request is in one of the two lists."""

    total_essays: int
    successful_essay_ids: tuple[str, ...]
    failed_essay_ids: tuple[str, ...]
    processing_time_seconds: float
    single_essay_batch: bool = False
    failed_essay_reasons: Mapping[str, str] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Return the JSON; the platform's contract has no reasons, so they appear only if there are any."""
        reasons = {"failed_essay_reasons": dict(self.failed_essay_reasons)} if self.failed_essay_reasons else {}
        return {
            "total_essays": self.total_essays,
            "successful": len(self.successful_essay_ids),
            "failed": len(self.failed_essay_ids),
            "successful_essay_ids": list(self.successful_essay_ids),
            "failed_essay_ids": list(self.failed_essay_ids),
            "processing_time_seconds": round(self.processing_time_seconds, 2),
            "single_essay_batch": self.single_essay_batch,
            **reasons,
        }


@dataclass(frozen=True)
class EssayOutcome:
    """An essay's score in logits, None where it has none; rank 1 is the best, ranks are distinct."""

    essay_id: str
    score: float | None
    rank: int

    def data(self) -> dict[str, Any]:
        """Return the JSON; without anchors no grade can be projected, so every essay carries U."""
        score = 0.0 if self.score is None else self.score
        if not math.isfinite(score):
            raise ValueError(f"score of essay {self.essay_id} is not finite")
        return {
            "essay_id": self.essay_id,
            "normalized_score": 0.0,
            "letter_grade": "U",
            "confidence_score": 0.0,
            "confidence_label": "LOW",
            "bt_score": score,
            "rank": self.rank,
            "is_anchor": False,
            "feedback_uri": None,
            "metrics_uri": None,
            "display_name": None,
        }


@dataclass(frozen=True)
class ResultSummary:
    """The ranking and how it came about; `comparison_count` counts comparisons that were really judged."""

    model_used: str
    model_provider: str
    assignment_id: str | None
    course_code: str
    comparison_count: int
    processing_duration_seconds: float
    llm_temperature: float
    essays: tuple[EssayOutcome, ...]

    def metadata(self) -> dict[str, Any]:
        return {
            "anchor_essays_used": 0,
            "calibration_method": "default",
            "anchor_grade_distribution": {},
            "comparison_count": self.comparison_count,
            "processing_duration_seconds": self.processing_duration_seconds,
            "llm_temperature": self.llm_temperature,
            "assignment_id": self.assignment_id,
            "course_code": self.course_code,
        }


@dataclass(frozen=True)
class PartialProgress:
    """How far a batch was when its partial result was made, in comparisons; `version` is that of the result to come."""

    planned: int
    completed: int
    failed: int
    version: int


@dataclass(frozen=True)
class Usage:
    """Who pays for how many comparisons."""

    user_id: str
    org_id: str | None
    quantity: int


def completed(ctx: EventContext, summary: ProcessingSummary) -> Outgoing:
    """Tell that the batch ended with its scores; without a single score the status says that it failed."""
    event = "cj_assessment.completed"
    status = COMPLETED_SUCCESSFULLY if summary.successful_essay_ids else FAILED_CRITICALLY
    data = {
        **_heading(ctx, event),
        "status": status,
        "system_metadata": _system_metadata(ctx, "completed", event),
        "cj_assessment_job_id": ctx.job_id,
        "processing_summary": summary.data(),
    }
    return Outgoing("completed", ctx.entity_id, EVENT_TYPES["completed"], data)


def failed(ctx: EventContext, error_info: Mapping[str, Any], status: str = FAILED_CRITICALLY) -> Outgoing:
    """Tell that the batch ended without scores, or never began (job id INITIALIZATION_FAILED)."""
    event = "cj_assessment.failed"
    stage = CANCELLED if status == CANCELLED else "failed"
    system_metadata = {**_system_metadata(ctx, stage, event), "error_info": storable(dict(error_info))}
    data = {
        **_heading(ctx, event),
        "status": status,
        "system_metadata": system_metadata,
        "cj_assessment_job_id": ctx.job_id,
    }
    return Outgoing("failed", ctx.entity_id, EVENT_TYPES["failed"], data)


def assessment_result(ctx: EventContext, result: ResultSummary) -> Outgoing:
    """Publish the ranking, best essay first."""
    data = {
        **_heading(ctx, "assessment.result.published"),
        "batch_id": ctx.entity_id,
        "cj_assessment_job_id": ctx.job_id,
        "assignment_id": result.assignment_id,
        "assessment_method": METHOD,
        "model_used": result.model_used,
        "model_provider": result.model_provider,
        "model_version": None,
        "essay_results": [essay.data() for essay in sorted(result.essays, key=lambda essay: essay.rank)],
        "assessment_metadata": result.metadata(),
        "assessed_at": wire_time(ctx.now),
    }
    return Outgoing("result", ctx.job_id, EVENT_TYPES["result"], data)


def partial_result(ctx: EventContext, progress: PartialProgress, essays: tuple[EssayOutcome, ...]) -> Outgoing:
    """Publish a first ranking, best essay first, and say how much of the batch it rests on."""
    data = {
        **_heading(ctx, "cj_assessment.partial_result"),
        "batch_id": ctx.entity_id,
        "cj_assessment_job_id": ctx.job_id,
        "is_final": False,
        "result_version": progress.version,
        "comparisons": {"planned": progress.planned, "completed": progress.completed, "failed": progress.failed},
        "essay_results": [
            {"essay_id": essay.essay_id, "bt_score": essay.score, "rank": essay.rank}
            for essay in sorted(essays, key=lambda essay: essay.rank)
        ],
        "assessed_at": wire_time(ctx.now),
    }
    return Outgoing("partial", ctx.entity_id, EVENT_TYPES["partial"], data)


def consumption(ctx: EventContext, usage: Usage) -> Outgoing:
    """Report the comparisons that a user has to pay for."""
    data = {
        **_heading(ctx, "resource.consumption.reported"),
        "user_id": usage.user_id,
        "org_id": usage.org_id,
        "resource_type": RESOURCE,
        "quantity": usage.quantity,
        "service_name": SERVICE,
        "processing_id": ctx.job_id,
        "consumed_at": wire_time(ctx.now),
    }
    return Outgoing("consumption", ctx.entity_id, EVENT_TYPES["consumption"], data)


def error_info_of(detail: ErrorDetail) -> dict[str, Any]:
    """Describe an error as a failed event does; times here have +00:00 where all others have Z."""
    return {
        "error_code": detail.error_code,
        "error_message": without_nul(detail.message),
        "correlation_id": str(detail.correlation_id),
        "timestamp": as_utc(detail.timestamp).isoformat(timespec="microseconds"),
        "service": detail.service,
        "details": storable(dict(detail.details)),
    }


def envelope_bytes(event: Outgoing, event_id: UUID, ctx: EventContext) -> bytes:
    """Write the event with its envelope; the same three arguments always give the same bytes."""
    envelope = EventEnvelope(
        event_id=event_id,
        event_type=event.event_type,
        event_timestamp=ctx.now,
        source_service=SERVICE,
        correlation_id=ctx.correlation_id,
        data=event.data,
        metadata={},
    )
    return write_envelope(envelope)


def wire_time(moment: datetime) -> str:
    """Write a time as the platform does: UTC with Z, microseconds only where there are any."""
    return as_utc(moment).isoformat().replace("+00:00", "Z")


def _heading(ctx: EventContext, event_name: str) -> dict[str, Any]:
    return {"event_name": event_name, **_entity(ctx)}


def _entity(ctx: EventContext) -> dict[str, Any]:
    return {
        "entity_id": ctx.entity_id,
        "entity_type": ctx.entity_type,
        "parent_id": ctx.parent_id,
        "timestamp": wire_time(ctx.now),
    }


def _system_metadata(ctx: EventContext, stage: str, event: str) -> dict[str, Any]:
    """Return the platform's processing record; what never started has no end either."""
    started_at = wire_time(ctx.started_at) if ctx.started_at else None
    return {
        **_entity(ctx),
        "processing_stage": stage,
        "started_at": started_at,
        "completed_at": wire_time(ctx.now) if started_at else None,
        "event": event,
        "error_info": {},
    }
