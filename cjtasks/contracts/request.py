"""A request to compare the essays of a batch: the wire model, and how it is read.

Two shapes are read: the present one, and that of July 2025 with its nested references, its inline
instructions and without a user.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from cjtasks.contracts.envelope import EventEnvelope, Moment, WireModel, now, read_data, read_envelope
from cjtasks.contracts.event_names import EVENT_NAMES
from cjtasks.contracts.refusal import (
    BatchConfigOverrides,
    batch_config,
    max_comparisons,
    refuse_unusable,
)
from cjtasks.contracts.storable import storable, without_nul

__all__ = [
    "Addressee",
    "AssessmentRequest",
    "BatchConfigOverrides",
    "ReceivedRequest",
    "addressee",
    "batch_config",
    "max_comparisons",
    "read_request",
    "refuse_unusable",
]

_DEFAULT_ENTITY_TYPE = "batch"
_AS_UUID: TypeAdapter[UUID] = TypeAdapter(UUID)


def _known_event(name: str) -> str:
    if name not in EVENT_NAMES:
        raise ValueError("the platform has no event of this name")
    return name


EventName = Annotated[str, AfterValidator(_known_event)]
Stage = Literal["pending", "initialized", "processing", "completed", "failed", "cancelled"]
CourseCode = Literal["ENG5", "ENG6", "ENG7", "SV1", "SV2", "SV3"]
ContentType = Literal[
    "original_essay",
    "corrected_text",
    "processing_log",
    "nlp_metrics_json",
    "student_facing_ai_feedback_text",
    "ai_editor_revision_text",
    "ai_detailed_analysis_json",
    "grammar_analysis_json",
    "cj_results_json",
    "raw_upload_blob",
    "extracted_plaintext",
    "student_prompt_text",
]


class SystemMetadata(WireModel):
    """Where the batch stands in the platform; we read it and use none of it."""

    entity_id: str
    entity_type: str
    parent_id: str | None = None
    timestamp: Moment = Field(default_factory=now)
    processing_stage: Stage | None = None
    started_at: Moment | None = None
    completed_at: Moment | None = None
    event: str | None = None
    error_info: dict[str, Any] = Field(default_factory=dict)


class EssayReference(WireModel):
    """An essay and where its text is kept; the metrics are any JSON, and not ours to read."""

    essay_id: str
    text_storage_id: str
    spellcheck_metrics: Any = None


class StorageReferences(WireModel):
    """Content types, each with a map such as storage_id and path."""

    references: dict[ContentType, dict[str, str]] = Field(default_factory=dict)


class LLMConfigOverrides(WireModel):
    """What the sender wants otherwise; the last two and the provider are free text on the wire."""

    model_override: str | None = None
    temperature_override: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    max_tokens_override: Annotated[int, Field(gt=0)] | None = None
    provider_override: str | None = None
    system_prompt_override: str | None = None
    judge_rubric_override: str | None = None
    reasoning_effort: str | None = None
    output_verbosity: str | None = None

    @property
    def provider(self) -> str | None:
        """The provider's name as the platform compares it: trimmed, in lower case."""
        return None if self.provider_override is None else self.provider_override.strip().lower()


class AssessmentRequest(WireModel):
    """The payload of a request; `user_id` is None and `inline_prompt` set only in the shape of July 2025.

    An absent `entity_id` is legal on the wire, though nothing can be answered without one.
    """

    event_name: EventName = "els.cj_assessment.requested"
    entity_id: str | None = None
    entity_type: str | None = None
    parent_id: str | None = None
    timestamp: Moment = Field(default_factory=now)
    system_metadata: SystemMetadata
    essays_for_cj: tuple[EssayReference, ...]
    language: str
    course_code: CourseCode
    student_prompt_ref: StorageReferences | None = None
    inline_prompt: str | None = None
    llm_config_overrides: LLMConfigOverrides | None = None
    assignment_id: Annotated[str, Field(max_length=100)] | None = None
    user_id: str | None = None
    org_id: str | None = None

    @property
    def student_prompt_id(self) -> str | None:
        """The Content Service's id of the student prompt, None where there is none or an empty one."""
        references = self.student_prompt_ref.references if self.student_prompt_ref else {}
        return references.get("student_prompt_text", {}).get("storage_id") or None


class _RequestOfToday(AssessmentRequest):
    user_id: str


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that could be read; `correlation_id` is the same for each copy of one message."""

    envelope: EventEnvelope
    data: AssessmentRequest
    correlation_id: UUID


@dataclass(frozen=True)
class Addressee:
    """Whom to tell that a request cannot be used."""

    entity_id: str
    entity_type: str
    parent_id: str | None
    correlation_id: UUID


def read_request(payload: bytes) -> ReceivedRequest:
    """Read a request's bytes in either shape; raise UnreadableMessage naming level and field."""
    envelope = read_envelope(payload)
    data = _read_either_shape(envelope.data)
    correlation_id = envelope.correlation_id or _derived_id(data.entity_id, envelope.data)
    return ReceivedRequest(envelope, data, correlation_id)


def addressee(payload: bytes) -> Addressee | None:
    """Find out whom a request that does not validate is about, None where an id is missing; never raises."""
    try:
        message = from_json(payload)
    except ValueError:
        return None
    outer = _as_dict(message)
    data = _as_dict(outer.get("data"))
    reference = data if _text(data, "entity_id") else _as_dict(data.get("entity_ref"))
    entity_id, correlation_id = _text(reference, "entity_id"), _uuid(outer.get("correlation_id"))
    if entity_id is None or correlation_id is None:
        return None
    entity_type = _text(reference, "entity_type") or _DEFAULT_ENTITY_TYPE
    return Addressee(entity_id, entity_type, _text(reference, "parent_id"), correlation_id)


def _read_either_shape(data: Any) -> AssessmentRequest:
    if not isinstance(data, dict):
        return read_data(AssessmentRequest, data)
    nested = "entity_ref" in data
    shape = AssessmentRequest if nested else _RequestOfToday
    return read_data(shape, _without_nul(_flattened(data) if nested else {**data, "inline_prompt": None}))


def _flattened(data: dict[str, Any]) -> dict[str, Any]:
    """Bring the shape of July 2025 into the present one; what stands in both keeps its present value."""
    reference = _as_dict(data["entity_ref"]) if data.get("entity_id") is None else {}
    return {
        **data,
        **{name: reference[name] for name in ("entity_id", "entity_type", "parent_id") if name in reference},
        "system_metadata": _flattened_metadata(data.get("system_metadata")),
        "inline_prompt": data.get("essay_instructions"),
    }


def _flattened_metadata(metadata: Any) -> Any:
    if not isinstance(metadata, dict):
        return metadata
    return {**_as_dict(metadata.get("entity")), **metadata}


def _without_nul(value: Any) -> Any:
    """Remove what no text column can hold, before ids are compared, so that equal ids are seen as equal."""
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, dict):
        return {key: _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


def _derived_id(entity_id: str | None, data: Any) -> UUID:
    """Derive the id from the content, never from chance: the duplicate of a message must get the same one."""
    canonical = json.dumps(storable(data), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return uuid5(NAMESPACE_URL, f"cjtasks:request:{entity_id}:{digest}")


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(source: dict[str, Any], key: str) -> str | None:
    value = source.get(key)
    return without_nul(value) or None if isinstance(value, str) else None


def _uuid(value: object) -> UUID | None:
    try:
        return _AS_UUID.validate_python(value)
    except ValidationError:
        return None
