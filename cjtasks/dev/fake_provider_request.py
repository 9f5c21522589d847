"""What the fake LLM Provider reads from a POST, and how it refuses one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cjtasks.dev.fake_provider_behaviour import QUEUE_FULL, ProviderBehaviour, ProviderName

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "llm_provider_service"
_HEADING = re.compile(r"\W*Essay ([AB])\b[^\n]*\n")


@dataclass(frozen=True)
class Reply:
    """What goes back over HTTP; `body` becomes JSON."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


class Overrides(BaseModel):
    """The request's `llm_config_overrides`; unknown fields are ignored, as upstream does."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    provider_override: ProviderName | None = None
    model_override: str | None = None
    system_prompt_override: str | None = None
    temperature_override: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens_override: Annotated[int, Field(gt=0)] | None = None
    reasoning_effort: Literal["none", "low", "medium", "high"] | None = None
    output_verbosity: Literal["low", "medium", "high"] | None = None


class ComparisonRequest(BaseModel):
    """The body of POST /api/v1/comparison."""

    model_config = ConfigDict(frozen=True)

    user_prompt: str
    callback_topic: str
    prompt_blocks: list[dict[str, Any]] | None = None
    llm_config_overrides: Overrides | None = None
    correlation_id: UUID | None = None
    metadata: dict[str, Any] = {}

    def essay_texts(self) -> dict[str, str]:
        """Take the texts under the headings of essay A and B; they are empty without prompt blocks."""
        texts = {"A": "", "B": ""}
        for block in self.prompt_blocks or ():
            content = str(block.get("content", ""))
            if heading := _HEADING.match(content):
                texts[heading[1]] = content[heading.end() :].strip()
        return texts


def read_request(body: bytes) -> ComparisonRequest | Reply:
    """Validate as upstream's route does; a Reply is its refusal (400, or 500 for an empty topic)."""
    try:
        request = ComparisonRequest.model_validate_json(body)
    except ValidationError as error:
        return Reply(400, {"error": f"bad request body: {_first_error(error)}"})
    if request.llm_config_overrides is None or request.llm_config_overrides.provider_override is None:
        return _no_provider(request)
    if not request.callback_topic:
        return _platform_error(500, "CONFIGURATION_ERROR", request, {"config_key": "callback_topic"})
    return request


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}"


def _no_provider(request: ComparisonRequest) -> Reply:
    body = {
        "error": "no provider was named",
        "details": "llm_config_overrides.provider_override is needed",
        "correlation_id": str(request.correlation_id) if request.correlation_id else None,
    }
    return Reply(400, body)


def refusal(behaviour: ProviderBehaviour, request: ComparisonRequest) -> Reply:
    """Refuse a sound request: 202 means that the queue is full, every other status is itself."""
    status = behaviour.refuse_status
    reply = _refusal_body(status, behaviour, request)
    if behaviour.retry_after is None:
        return reply
    return Reply(status, reply.body, {"Retry-After": f"{behaviour.retry_after:.0f}"})


def _refusal_body(status: int, behaviour: ProviderBehaviour, request: ComparisonRequest) -> Reply:
    if status == QUEUE_FULL:
        usage = {"queue_usage_percent": 100.0, "retry_after_seconds": behaviour.retry_after}
        return _platform_error(status, "REQUEST_QUEUED", request, {"queue_size": 1000, "details": usage})
    if status in (500, 503):  # Upstream's two plain forms: `error` is a text here and an object elsewhere.
        return Reply(status, {"error": "the provider is not available", "details": "switched off on purpose"})
    return _platform_error(status, _CODES.get(status, "PROCESSING_ERROR"), request, {})


_CODES = {
    400: "INVALID_REQUEST",
    401: "AUTHENTICATION_ERROR",
    403: "AUTHORIZATION_ERROR",
    404: "RESOURCE_NOT_FOUND",
    429: "RATE_LIMIT",
    502: "EXTERNAL_SERVICE_ERROR",
    504: "TIMEOUT",
}


def _platform_error(status: int, code: str, request: ComparisonRequest, details: Mapping[str, object]) -> Reply:
    error = {
        "code": code,
        "message": f"the fake provider answers {status} {code}",
        "correlation_id": str(request.correlation_id) if request.correlation_id else None,
        "service": SERVICE,
        "timestamp": datetime.now(UTC).isoformat(),
        "details": details,
    }
    return Reply(status, {"error": error})
