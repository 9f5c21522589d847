"""What the wire model of a request accepts and we refuse, before any money is spent on it.

A refusal names the field in its details; the sender's values are not echoed, but for a short provider name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from cjtasks.contracts.envelope import WireModel
from cjtasks.contracts.provider import OUTPUT_VERBOSITIES, PROVIDERS, REASONING_EFFORTS
from cjtasks.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from cjtasks.contracts.request import AssessmentRequest, LLMConfigOverrides, ReceivedRequest

_OPERATION = "read_request"
_BATCH_CONFIG = "batch_config_overrides"
_LONGEST_NAME_ECHOED = 40

LONGEST_ID = 2000
"""In bytes of UTF-8: what an index of Postgres can hold, and more than anyone would pay to have in each prompt."""

Reason = tuple[str, str]


class BatchConfigOverrides(WireModel):
    """How the sender wants its batch run; the threshold is a share, 0.95 meaning 95 %."""

    batch_size: Annotated[int, Field(ge=10, le=200)] | None = None
    max_concurrent_batches: Annotated[int, Field(ge=1, le=5)] | None = None
    partial_completion_threshold: Annotated[float, Field(ge=0.5, le=1.0)] | None = None
    llm_batching_mode_override: Literal["per_request", "serial_bundle", "provider_batch_api"] | None = None


def max_comparisons(metadata: Mapping[str, Any] | None) -> int | None:
    """Return the sender's budget, None where it is no positive integer (booleans and texts are ignored)."""
    value = (metadata or {}).get("max_comparisons")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def batch_config(metadata: Mapping[str, Any] | None, correlation_id: UUID | None = None) -> BatchConfigOverrides:
    """Read the batch configuration; raise RequestRefused naming the field that is out of range."""
    given = (metadata or {}).get(_BATCH_CONFIG)
    try:
        return BatchConfigOverrides.model_validate({} if given is None else given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = (".".join((_BATCH_CONFIG, *map(str, first["loc"]))), first["msg"])
    raise _refusal(reason, correlation_id)


def refuse_unusable(request: ReceivedRequest) -> None:
    """Raise RequestRefused for the first thing that we cannot honour; return where there is none."""
    reason = next(_reasons(request.data), None)
    if reason is not None:
        raise _refusal(reason, request.correlation_id)
    batch_config(request.envelope.metadata, request.correlation_id)


def _reasons(data: AssessmentRequest) -> Iterator[Reason]:
    yield from _oversized_ids(data)
    if not data.essays_for_cj:
        yield "essays_for_cj", "there is no essay to compare"
    yield from _repeated_essays(data)
    if data.user_id is not None and not data.user_id.strip():
        yield "user_id", "an empty user cannot be billed"
    if data.llm_config_overrides is not None:
        yield from _unknown_choices(data.llm_config_overrides)


def _oversized_ids(data: AssessmentRequest) -> Iterator[Reason]:
    named = [("entity_id", data.entity_id or "")]
    named += [(f"essays_for_cj.{n}.essay_id", essay.essay_id) for n, essay in enumerate(data.essays_for_cj)]
    for field, value in named:
        if len(value.encode()) > LONGEST_ID:
            yield field, f"an id may have up to {LONGEST_ID} bytes"


def _repeated_essays(data: AssessmentRequest) -> Iterator[Reason]:
    seen: set[str] = set()
    for position, essay in enumerate(data.essays_for_cj):
        if essay.essay_id in seen:
            yield f"essays_for_cj.{position}.essay_id", "the same essay stands in the list twice"
        seen.add(essay.essay_id)


def _unknown_choices(overrides: LLMConfigOverrides) -> Iterator[Reason]:
    if overrides.provider is not None and overrides.provider not in PROVIDERS:
        yield "llm_config_overrides.provider_override", _unknown_provider(overrides.provider)
    for name, allowed in (("reasoning_effort", REASONING_EFFORTS), ("output_verbosity", OUTPUT_VERBOSITIES)):
        value = getattr(overrides, name)
        if value is not None and value not in allowed:
            yield f"llm_config_overrides.{name}", f"must be one of {', '.join(sorted(allowed))}"


def _unknown_provider(name: str) -> str:
    shown = f" {name!r}" if len(name) <= _LONGEST_NAME_ECHOED else ""
    return f"unknown provider{shown}, must be one of {', '.join(sorted(PROVIDERS))}"


def _refusal(reason: Reason, correlation_id: UUID | None) -> RequestRefused:
    field, sentence = reason
    return RequestRefused.of(f"{field}: {sentence}", operation=_OPERATION, correlation_id=correlation_id, field=field)
