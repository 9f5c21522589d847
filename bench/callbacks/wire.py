"""Callbacks as the provider sends them, about 1.3 kB each, with nothing in common that could be compressed away."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from cjtasks.dev.demo_essays import demo_essays

UNREADABLE = b"{}"
"""No callback: it ends as a dead letter, which shows that the whole path is up."""

_BEFORE = (
    '{"event_id":"%(event)s","event_type":"LLMComparisonResultV1","event_timestamp":"%(asked_at)s",'
    '"source_service":"llm_provider_service","schema_version":1,"correlation_id":"%(correlation)s",'
    '"data_schema_uri":null,"data":{"request_id":"%(request)s","correlation_id":"%(correlation)s",%(answer)s,'
    '"response_time_ms":%(milliseconds)d,"token_usage":{"prompt_tokens":%(tokens)d,"completion_tokens":62,'
    '"total_tokens":%(tokens)d},"cost_estimate":0.0%(tokens)d,"requested_at":"%(asked_at)s","completed_at":"'
)
_AFTER = (
    '","trace_id":"%(trace)s","request_metadata":{"essay_a_id":"%(essay_a)s","essay_b_id":"%(essay_b)s",'
    '"bos_batch_id":"batch-%(batch)d","cj_batch_id":"%(batch)d","cj_source":"els",'
    '"cj_request_type":"cj_comparison","resolved_provider":"openai","queue_processing_mode":"per_request",'
    '"resolved_model":"gpt-5.1","prompt_sha256":"%(prompt)s"}},"metadata":null}'
)
_VERDICT = (
    '"winner":"%(winner)s","justification":"%(justification)s","confidence":%(confidence).1f,"error_detail":null,'
    '"provider":"openai","model":"gpt-5.1"'
)
_ERROR = (
    '"winner":null,"justification":null,"confidence":null,"error_detail":{"error_code":"RATE_LIMIT","message":'
    '"the provider refused the call","correlation_id":"%(correlation)s","timestamp":"%(asked_at)s","service":'
    '"llm_provider_service","operation":"provider_call","details":{"external_service":"openai_api","retry_after":20},'
    '"stack_trace":null,"trace_id":null,"span_id":null},"provider":"openai","model":"unknown"'
)
_ERRORS_PER_HUNDRED = 2
_WORDS = sorted({word for text in demo_essays().values() for word in text.lower().split() if word.isalpha()})


@dataclass(frozen=True, slots=True)
class Asked:
    """A comparison that waits for its answer."""

    correlation_id: str
    request_id: str
    batch_id: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A callback but for the moment at which it is sent, so that writing it costs the load next to nothing."""

    before: bytes
    after: bytes

    def sent_at(self, now: float) -> bytes:
        """Return the message; `now` (seconds since 1970) is when the provider says that it judged."""
        return b"%b%b%b" % (self.before, datetime.fromtimestamp(now, UTC).isoformat().encode(), self.after)


class Judge:
    """Writes an answer to each question; the same seed gives the same verdicts."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._asked_at = datetime.now(UTC).isoformat()

    def answer(self, asked: Asked) -> Answer:
        values = {
            "correlation": asked.correlation_id,
            "request": asked.request_id,
            "batch": asked.batch_id,
            "asked_at": self._asked_at,
            "milliseconds": self._rng.randrange(400, 9000),
            "tokens": self._rng.randrange(900, 4000),
            **_identities(),
        }
        is_error = self._rng.randrange(100) < _ERRORS_PER_HUNDRED
        values["answer"] = _ERROR % values if is_error else self._verdict()
        return Answer((_BEFORE % values).encode(), (_AFTER % values).encode())

    def _verdict(self) -> str:
        return _VERDICT % {
            "winner": self._rng.choice(("Essay A", "Essay B")),
            "justification": " ".join(self._rng.choices(_WORDS, k=28)),
            "confidence": self._rng.randrange(10, 51) / 10,
        }


def _identities() -> dict[str, str]:
    random = os.urandom(96).hex()
    uuids = [str(UUID(random[start : start + 32])) for start in (0, 32, 64)]
    return {
        "event": uuids[0],
        "essay_a": uuids[1],
        "essay_b": uuids[2],
        "trace": random[96:128],
        "prompt": random[128:192],
    }
