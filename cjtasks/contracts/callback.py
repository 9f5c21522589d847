"""One answer of the judge: the wire model, and the flat form that goes into the database."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, Self
from uuid import UUID

from pydantic import Field, model_validator

from cjtasks.contracts.envelope import EventEnvelope, Moment, WireModel, as_utc, now, read_data, read_message
from cjtasks.contracts.error_codes import ErrorCode
from cjtasks.contracts.provider import PROVIDER_SERVICE, PROVIDERS
from cjtasks.contracts.storable import bounded, storable, without_nul

_TRACES = frozenset({"stack_trace", "stacktrace", "traceback"})
_SIDES: dict[str | None, Literal["essay_a", "essay_b"]] = {"Essay A": "essay_a", "Essay B": "essay_b"}

Provider = Literal["anthropic", "openai", "google", "openrouter", "mock"]
Count = Annotated[int, Field(ge=0)]


class ErrorDetailV1(WireModel):
    """Why there is no verdict; the sender's stack trace is accepted and not kept."""

    error_code: ErrorCode
    message: str
    correlation_id: UUID
    timestamp: Moment
    service: str
    operation: str
    details: dict[str, Any] = Field(default_factory=dict)
    stack_trace: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


class TokenUsage(WireModel):
    """Tokens of one call; the sum is not checked."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    total_tokens: Count = 0


class LLMComparisonResultV1(WireModel):
    """The payload of a callback; confidence runs from 1 (a guess) to 5 (certain), unconverted.

    `Error` as a winner is the spelling of July 2025 for an answer without a verdict.
    """

    request_id: str
    correlation_id: UUID
    winner: Literal["Essay A", "Essay B", "Error"] | None = None
    justification: Annotated[str, Field(max_length=500)] | None = None
    confidence: Annotated[float, Field(ge=1.0, le=5.0)] | None = None
    error_detail: ErrorDetailV1 | None = None
    provider: Provider
    model: str
    response_time_ms: Count
    token_usage: TokenUsage = TokenUsage()
    cost_estimate: Annotated[float, Field(ge=0.0)]
    # Plain, since only the second is kept, and a validator in Python for each of them would be felt.
    requested_at: datetime
    completed_at: datetime
    trace_id: str | None = None
    request_metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _verdict_or_error(self) -> Self:
        """Let winner and error decide; what is left over beside an error is tolerated."""
        if self.winner == "Error":
            return self
        if (self.winner is None) == (self.error_detail is None):
            raise ValueError("exactly one of winner and error_detail must be set")
        if self.winner is not None and (self.justification is None or self.confidence is None):
            raise ValueError("a winner needs justification and confidence")
        return self


class CallbackEnvelope(EventEnvelope):
    """Envelope and answer together, so that one pass reads both."""

    event_timestamp: datetime = Field(default_factory=now)
    data: LLMComparisonResultV1


class Answer(NamedTuple):
    """A callback as we store it: either a winner with confidence (1-5) and justification, or an error code.

    Texts hold no NUL, integers fit a bigint, `error_details` is strict JSON without stack traces, `cost` is
    None where it was infinite, `judged_at` is the provider's time in UTC.
    A tuple, because a frozen dataclass of this size takes 1.6 µs longer to make, of the 6 that flattening took.
    """

    correlation_id: UUID
    request_id: str
    winner: Literal["essay_a", "essay_b"] | None
    confidence: float | None
    justification: str | None
    error_code: str | None
    error_message: str | None
    error_service: str | None
    error_details: dict[str, Any] | None
    judged_at: datetime
    provider: str
    model: str
    response_time_ms: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float | None


class _Verdict(NamedTuple):
    """The part of an answer in which success and error differ, in the order of Answer."""

    winner: Literal["essay_a", "essay_b"] | None = None
    confidence: float | None = None
    justification: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_service: str | None = None
    error_details: dict[str, Any] | None = None


def read_callback(payload: bytes) -> Answer:
    """Read a callback's bytes; raise UnreadableMessage naming level and field."""
    envelope = read_message(CallbackEnvelope, payload)
    return answer_of(envelope.data, envelope.source_service)


def read_answer(data: object) -> Answer:
    """Read the parsed `data` of a callback that came without an envelope, as the body of an HTTP answer."""
    return answer_of(read_data(LLMComparisonResultV1, data), PROVIDER_SERVICE)


def answer_of(result: LLMComparisonResultV1, source: str) -> Answer:
    """Flatten a validated answer; `source` is the service that sent it, for errors that do not name one."""
    usage, cost = result.token_usage, result.cost_estimate
    # By place, in the order of Answer: by name it takes twice as long to make.
    return Answer(
        result.correlation_id,
        without_nul(result.request_id),
        *_verdict(result, source),
        as_utc(result.completed_at),
        _provider(result),
        without_nul(result.model),
        bounded(result.response_time_ms),
        bounded(usage.prompt_tokens),
        bounded(usage.completion_tokens),
        bounded(usage.total_tokens),
        cost if math.isfinite(cost) else None,
    )


def _verdict(result: LLMComparisonResultV1, source: str) -> _Verdict:
    if result.error_detail is not None:
        return _error(result.error_detail)
    side = _SIDES.get(result.winner)
    if side is None:
        return _error_of_july_2025(source)
    return _Verdict(side, result.confidence, without_nul(result.justification or ""))


def _error(detail: ErrorDetailV1) -> _Verdict:
    return _Verdict(
        error_code=detail.error_code.value,
        error_message=without_nul(detail.message),
        error_service=without_nul(detail.service),
        error_details=storable(_without_traces(detail.details)),
    )


def _error_of_july_2025(source: str) -> _Verdict:
    return _Verdict(
        error_code=ErrorCode.INVALID_RESPONSE.value,
        error_message="The provider named Error as the winner and gave no reason.",
        error_service=without_nul(source),
        error_details={},
    )


def _without_traces(value: Any) -> Any:
    """Stack traces may quote prompts and keys, and nest as deep as the details do."""
    if isinstance(value, dict):
        return {key: _without_traces(item) for key, item in value.items() if key.lower() not in _TRACES}
    if isinstance(value, list):
        return [_without_traces(item) for item in value]
    return value


def _provider(result: LLMComparisonResultV1) -> str:
    """Trust the echo for errors: their own provider field is nearly always the default one."""
    resolved = result.request_metadata.get("resolved_provider")
    is_error = result.error_detail is not None or result.winner == "Error"
    return resolved if is_error and isinstance(resolved, str) and resolved in PROVIDERS else result.provider
