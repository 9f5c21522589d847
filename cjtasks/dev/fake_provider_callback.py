"""The callback of the LLM Provider, LLMComparisonResultV1 in its envelope, as bytes for Kafka."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cjtasks.dev.fake_provider_request import SERVICE

if TYPE_CHECKING:
    from cjtasks.dev.fake_provider_behaviour import ProviderBehaviour
    from cjtasks.dev.fake_provider_request import ComparisonRequest
    from cjtasks.dev.judges import Verdict

DEFAULT_MODEL = "fake-judge-1"
# Upstream names this provider in nearly all error callbacks, whichever it asked.
PROVIDER_ON_ERRORS = "openai"


@dataclass(frozen=True)
class Question:
    """An accepted request: `attempt` counts from 1 how often this correlation id was accepted."""

    request: ComparisonRequest
    behaviour: ProviderBehaviour
    correlation_id: str
    queue_id: str
    attempt: int
    requested_at: datetime

    @property
    def provider(self) -> str:
        overrides = self.request.llm_config_overrides
        asked = overrides.provider_override if overrides else None
        return self.behaviour.provider or asked or "mock"

    @property
    def model(self) -> str:
        return self.behaviour.model or self.model_asked or DEFAULT_MODEL

    @property
    def model_asked(self) -> str | None:
        overrides = self.request.llm_config_overrides
        return overrides.model_override if overrides else None


def success(question: Question, verdict: Verdict) -> bytes:
    taken = datetime.now(UTC) - question.requested_at
    tokens = {"prompt_tokens": len(question.request.user_prompt) // 4, "completion_tokens": 60}
    answer = {
        "winner": verdict.winner,
        "justification": verdict.justification,
        "confidence": verdict.confidence,
        "error_detail": None,
        "provider": question.provider,
        "model": question.model,
        "response_time_ms": int(taken.total_seconds() * 1000),
        "token_usage": {**tokens, "total_tokens": sum(tokens.values())},
        "cost_estimate": question.behaviour.cost_per_call,
    }
    return _enveloped(question, answer)


def failure(question: Question, code: str) -> bytes:
    answer = {
        "winner": None,
        "justification": None,
        "confidence": None,
        "error_detail": _error_detail(question, code),
        "provider": PROVIDER_ON_ERRORS,
        "model": "unknown",
        "response_time_ms": 0,
        "token_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "cost_estimate": 0.0,
    }
    return _enveloped(question, answer)


def _error_detail(question: Question, code: str) -> dict[str, Any]:
    return {
        "error_code": code,
        "message": f"the fake provider was asked to fail with {code}",
        "correlation_id": question.correlation_id,
        "timestamp": _wire_time(datetime.now(UTC)),
        "service": SERVICE,
        "operation": "provider_call",
        "details": {
            "external_service": f"{question.provider}_api",
            "details": {"provider": question.provider, "model": question.model},
        },
        "stack_trace": None,
        "trace_id": None,
        "span_id": None,
    }


def _enveloped(question: Question, answer: dict[str, Any]) -> bytes:
    now = _wire_time(datetime.now(UTC))
    data = {
        "request_id": question.queue_id,
        "correlation_id": question.correlation_id,
        **answer,
        "requested_at": _wire_time(question.requested_at),
        "completed_at": now,
        "trace_id": None,
        "request_metadata": _echoed(question),
    }
    envelope = {
        "event_id": str(uuid4()),
        "event_type": "LLMComparisonResultV1",
        "event_timestamp": now,
        "source_service": SERVICE,
        "schema_version": 1,
        "correlation_id": question.correlation_id,
        "data_schema_uri": None,
        "data": data,
        "metadata": None,
    }
    return json.dumps(envelope).encode()


def _echoed(question: Question) -> dict[str, Any]:
    resolved = {"resolved_provider": question.provider, "queue_processing_mode": "per_request"}
    if question.model_asked:
        resolved["resolved_model"] = question.model
    prompt = question.request.user_prompt.encode(errors="surrogatepass")
    return {**question.request.metadata, **resolved, "prompt_sha256": hashlib.sha256(prompt).hexdigest()}


def _wire_time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
