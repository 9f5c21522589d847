import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from cjtasks.contracts import results
from cjtasks.contracts.results import (
    EssayOutcome,
    EventContext,
    Outgoing,
    ProcessingSummary,
    ResultSummary,
    Usage,
)
from cjtasks.errors import ErrorDetail

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "contracts" / "fixtures"
EVENT_ID = UUID("59a1b59e-b479-4599-b8b3-29faccd29436")
NOW = datetime(2026, 3, 2, 9, 25, tzinfo=UTC)

CONTEXT = EventContext(
    entity_id="batch-1",
    entity_type="batch",
    parent_id=None,
    correlation_id=UUID("d542046d-482f-4b55-9291-fb2722fe189b"),
    job_id="42",
    now=NOW,
    started_at=datetime(2026, 3, 2, 9, 15, 2, tzinfo=UTC),
)
NEVER_STARTED = replace(CONTEXT, job_id=results.INITIALIZATION_FAILED, started_at=None)
SUMMARY = ProcessingSummary(3, ("e-1", "e-2"), ("e-3",), 598.004)
RESULT = ResultSummary(
    model_used="a-model",
    model_provider="openai",
    assignment_id=None,
    course_code="ENG5",
    comparison_count=6,
    processing_duration_seconds=598.2,
    llm_temperature=0.1,
    essays=(EssayOutcome("e-3", None, 3), EssayOutcome("e-1", 1.31, 1), EssayOutcome("e-2", -1.31, 2)),
)
REASONS = {"error_code": "VALIDATION_ERROR", "error_message": "user_id: empty"}

EVENTS = {
    "completed": (CONTEXT, results.completed(CONTEXT, SUMMARY)),
    "failed": (NEVER_STARTED, results.failed(NEVER_STARTED, REASONS)),
    "result": (CONTEXT, results.assessment_result(CONTEXT, RESULT)),
    "consumption": (CONTEXT, results.consumption(CONTEXT, Usage("teacher-1", None, 6))),
}
SCHEMAS = {
    "completed": "CJAssessmentCompletedV1",
    "failed": "CJAssessmentFailedV1",
    "result": "AssessmentResultV1",
    "consumption": "ResourceConsumptionV1",
}
EXAMPLES = {
    "completed": "completed_some_failed",
    "failed": "failed_initialization",
    "result": "result_unscored_essay",
    "consumption": "resource_consumption",
}

every_event = pytest.mark.parametrize("kind", list(EVENTS))


def wire(kind: str) -> dict[str, Any]:
    ctx, event = EVENTS[kind]
    sent: dict[str, Any] = json.loads(results.envelope_bytes(event, EVENT_ID, ctx))
    return sent


def fixture(*path: str) -> Any:
    file = FIXTURES.joinpath(*path)
    if not file.exists():
        pytest.skip("the platform's fixtures are not beside the repository")
    return json.loads(file.read_text(encoding="utf-8"))


def shape(value: Any) -> Any:
    """Replace each value by its kind; a list is known by its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return None if value is None else type(value).__name__


def keys_in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, keys_in_order(item)) for key, item in value.items()]
    return [keys_in_order(item) for item in value[:1]] if isinstance(value, list) else None


@every_event
def test_an_event_keeps_the_platforms_schema(kind: str) -> None:
    schema = fixture("schemas", f"{SCHEMAS[kind]}.envelope.json")
    jsonschema.Draft202012Validator(schema).validate(wire(kind))


@every_event
def test_an_event_has_the_platforms_keys_and_kinds_of_values(kind: str) -> None:
    expected = fixture("outgoing", f"{EXAMPLES[kind]}.json")
    sent = wire(kind)
    # What an error says is free, and so are the references of a batch.
    for message in (expected, sent):
        message["data"].get("system_metadata", {}).pop("error_info", None)
        message["data"].pop("org_id", None)
    assert keys_in_order(sent) == keys_in_order(expected)
    assert shape(sent) == shape(expected)


def test_the_envelope_is_the_platforms() -> None:
    sent = wire("completed")
    del sent["data"]
    assert sent == {
        "event_id": str(EVENT_ID),
        "event_type": "huleedu.cj_assessment.completed.v1",
        "event_timestamp": "2026-03-02T09:25:00Z",
        "source_service": "cj_assessment_service",
        "schema_version": 1,
        "correlation_id": str(CONTEXT.correlation_id),
        "data_schema_uri": None,
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("kind", "event_type", "key"),
    [
        ("completed", "huleedu.cj_assessment.completed.v1", "batch-1"),
        ("failed", "huleedu.cj_assessment.failed.v1", "batch-1"),
        ("result", "assessment.result.published", "42"),
        ("consumption", "huleedu.resource.consumption.v1", "batch-1"),
    ],
)
def test_each_kind_has_its_type_and_its_key(kind: str, event_type: str, key: str) -> None:
    event = EVENTS[kind][1]
    assert (event.kind, event.event_type, event.topic_key) == (kind, event_type, key)


def test_a_completed_batch_tells_who_got_a_score() -> None:
    data = EVENTS["completed"][1].data
    assert data["status"] == "completed_successfully"
    assert data["processing_summary"] == {
        "total_essays": 3,
        "successful": 2,
        "failed": 1,
        "successful_essay_ids": ["e-1", "e-2"],
        "failed_essay_ids": ["e-3"],
        "processing_time_seconds": 598.0,
        "single_essay_batch": False,
    }
    assert data["system_metadata"]["processing_stage"] == "completed"
    assert data["system_metadata"]["started_at"] == "2026-03-02T09:15:02Z"


def test_without_a_score_the_completed_event_says_that_it_failed() -> None:
    event = results.completed(CONTEXT, ProcessingSummary(1, (), ("e-1",), 1.0))
    assert event.data["status"] == "failed_critically"


def test_reasons_are_written_only_where_there_are_any() -> None:
    summary = replace(SUMMARY, failed_essay_reasons={"e-3": "RESOURCE_NOT_FOUND"})
    written = results.completed(CONTEXT, summary).data["processing_summary"]
    assert written["failed_essay_reasons"] == {"e-3": "RESOURCE_NOT_FOUND"}
    assert "failed_essay_reasons" not in SUMMARY.data()


def test_what_never_started_has_neither_start_nor_end() -> None:
    data = EVENTS["failed"][1].data
    assert data["cj_assessment_job_id"] == "INITIALIZATION_FAILED"
    assert data["status"] == "failed_critically"
    assert (data["system_metadata"]["started_at"], data["system_metadata"]["completed_at"]) == (None, None)
    assert data["system_metadata"]["error_info"] == REASONS


def test_what_started_and_failed_has_both_with_their_zone() -> None:
    naive = replace(CONTEXT, started_at=datetime(2026, 3, 2, 9, 15, 2))  # noqa: DTZ001 - a time without zone is the point
    metadata = results.failed(naive, REASONS).data["system_metadata"]
    assert metadata["processing_stage"] == "failed"
    assert (metadata["started_at"], metadata["completed_at"]) == (
        "2026-03-02T09:15:02Z",
        "2026-03-02T09:25:00Z",
    )


def test_a_cancelled_batch_says_so() -> None:
    data = results.failed(CONTEXT, REASONS, status="cancelled").data
    assert (data["status"], data["system_metadata"]["processing_stage"]) == ("cancelled", "cancelled")


def test_the_ranking_goes_out_best_first_and_an_unscored_essay_has_zero() -> None:
    essays = EVENTS["result"][1].data["essay_results"]
    assert [(essay["essay_id"], essay["bt_score"], essay["rank"]) for essay in essays] == [
        ("e-1", 1.31, 1),
        ("e-2", -1.31, 2),
        ("e-3", 0.0, 3),
    ]


def test_without_anchors_no_essay_has_a_grade() -> None:
    data = EVENTS["result"][1].data
    assert {
        (
            essay["letter_grade"],
            essay["normalized_score"],
            essay["confidence_score"],
            essay["confidence_label"],
        )
        for essay in data["essay_results"]
    } == {("U", 0.0, 0.0, "LOW")}
    assert data["assessment_metadata"]["calibration_method"] == "default"
    assert data["assessment_metadata"]["anchor_essays_used"] == 0


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_not_published(score: float) -> None:
    broken = replace(RESULT, essays=(EssayOutcome("e-1", score, 1),))
    with pytest.raises(ValueError, match="e-1"):
        results.assessment_result(CONTEXT, broken)


def test_consumption_names_who_pays_and_for_how_much() -> None:
    data = EVENTS["consumption"][1].data
    assert (data["user_id"], data["org_id"], data["quantity"]) == ("teacher-1", None, 6)
    assert (data["resource_type"], data["processing_id"]) == ("cj_comparison", "42")


def test_an_error_is_described_with_its_six_keys() -> None:
    detail = ErrorDetail("TIMEOUT", "too\0 late", EVENT_ID, "fetch", timestamp=NOW, details={"seconds": float("inf")})
    assert results.error_info_of(detail) == {
        "error_code": "TIMEOUT",
        "error_message": "too late",
        "correlation_id": str(EVENT_ID),
        "timestamp": "2026-03-02T09:25:00.000000+00:00",
        "service": "cj_assessment_service",
        "details": {"seconds": None},
    }


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (NOW, "2026-03-02T09:25:00Z"),
        (NOW + timedelta(microseconds=5), "2026-03-02T09:25:00.000005Z"),
        (NOW.astimezone(timezone(timedelta(hours=2))), "2026-03-02T09:25:00Z"),
        (NOW.replace(tzinfo=None), "2026-03-02T09:25:00Z"),
    ],
)
def test_a_time_is_written_in_utc_with_z(moment: datetime, written: str) -> None:
    assert results.wire_time(moment) == written


def test_the_same_event_always_has_the_same_bytes() -> None:
    again: Outgoing = results.completed(CONTEXT, SUMMARY)
    first = results.envelope_bytes(EVENTS["completed"][1], EVENT_ID, CONTEXT)
    assert results.envelope_bytes(again, EVENT_ID, CONTEXT) == first
