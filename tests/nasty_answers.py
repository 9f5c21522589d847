"""Our own nasty answers of the judge, each with what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from cjtasks.store.inbox import Kind
from tests.nasty import Becomes, Case, answer, error, own, swapped

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = "[" * 1000 + "]" * 1000
FINAL_CODES = (
    "AUTHENTICATION_ERROR",
    "AUTHORIZATION_ERROR",
    "INVALID_API_KEY",
    "QUOTA_EXCEEDED",
    "CONFIGURATION_ERROR",
    "INVALID_REQUEST",
    "VALIDATION_ERROR",
    "CONTENT_TOO_LONG",
)


def written(name: str, payload: bytes, becomes: Becomes = Becomes.SET_ASIDE, says: str = "envelope: ") -> Case:
    return Case(name, Kind.CALLBACK, payload, becomes, says, UUID(own(f"{name}-comparison")), own(f"{name}-queue"))


def judged(name: str, data: dict[str, Any] | None = None, **envelope: Any) -> Case:
    return written(name, answer(name, data, **envelope), Becomes.JUDGED, "essay_a")


def refused(name: str, field: str, data: dict[str, Any]) -> Case:
    return written(name, answer(name, data), Becomes.SET_ASIDE, f"data: {field}: " if field else "data: ")


def answers() -> Iterator[Case]:
    """Yield every answer; no two belong to the same comparison."""
    yield from _bytes_that_are_no_answer()
    yield from _answers_against_the_contract()
    yield from _verdicts_that_are_only_odd()
    yield from _more_verdicts()
    yield from _errors()


def _bytes_that_are_no_answer() -> Iterator[Case]:
    a = answer("x")
    digits, nested = ('"request_metadata": {"a": ' + value + '}, "winner"' for value in ("9" * 5000, DEEP))
    yield written("a truncated answer", a[:300])
    yield written("an answer with a byte order mark", b"\xef\xbb\xbf" + a)
    yield written("an answer with half a character", swapped(a, "Clearer.", "\\udfff"))
    yield written("two answers in one message", a * 2)
    yield written("an answer and a NUL byte", a + b"\0")
    yield written("an answer that nests without end", swapped(a, '"winner"', nested))
    yield written("an answer with a number of 5,000 digits", swapped(a, '"winner"', digits))
    yield written("an answer in a list", b"[%s]" % a)
    yield written("an answer in UTF-16", a.decode().encode("utf-16"), says="decode: ")


def _answers_against_the_contract() -> Iterator[Case]:
    yield refused("a correlation id that is a number", "correlation_id", {"correlation_id": 7})
    yield refused("a winner that nobody knows", "winner", {"winner": "Essay C"})
    yield refused("a confidence of NaN", "confidence", {"confidence": float("nan")})
    yield refused("a confidence of 0", "confidence", {"confidence": 0})
    yield refused("a confidence of 5.001", "confidence", {"confidence": 5.001})
    yield refused("a cost of NaN", "cost_estimate", {"cost_estimate": float("nan")})
    yield refused("a cost below zero", "cost_estimate", {"cost_estimate": -0.01})
    yield refused("no winner and no error", "", {"winner": None})
    yield refused("a winner beside an error", "", error("a winner beside an error") | {"winner": "Essay A"})
    yield refused("a winner without a word", "", {"justification": None})
    yield refused("501 characters", "justification", {"justification": "é" * 501})
    yield refused("a time at the end of days", "completed_at", {"completed_at": 10**20})
    yield refused("tokens that are null", "token_usage", {"token_usage": None})
    yield refused("an error without a name", "error_detail.error_code", error("an error without a name", code="OOPS"))


def _verdicts_that_are_only_odd() -> Iterator[Case]:
    nul = {"justification": "\0", "model": "\0", "request_id": "\0"}
    yield judged("a verdict of NUL characters", nul)
    yield judged("500 characters of four bytes", {"justification": "🦊" * 500})
    yield judged("an infinite cost", {"cost_estimate": float("inf")})
    yield judged("a cost as text", {"cost_estimate": "1e308"})
    yield judged("a huge integer", {"response_time_ms": 10**40, "token_usage": {"total_tokens": 10**30}})
    yield judged("numbers as text", {"confidence": "5", "response_time_ms": "12"})
    yield judged("numbers as booleans", {"confidence": True, "response_time_ms": False})
    yield judged("a whole float", {"response_time_ms": 12.0})
    yield judged("a time in milliseconds", {"completed_at": 1772000000000})
    yield judged("times without a zone", {"completed_at": "2026-03-02 09:00"}, event_timestamp="2026-03-02T09:00:00")
    yield judged("a time before all others", {"completed_at": "0001-01-01T00:00:00+14:00"})
    yield judged("a time after all others", {"completed_at": "9999-12-31T23:59:59-14:00"})
    yield judged("an empty justification", {"justification": ""})


def _more_verdicts() -> Iterator[Case]:
    yield judged("an id in capitals", {"correlation_id": "urn:uuid:" + own("an id in capitals-comparison").upper()})
    yield judged("an id without dashes", {"correlation_id": UUID(own("an id without dashes-comparison")).hex})
    echo = {"essay_a_id": "another", "resolved_provider": ["x"], "prompt_sha256": 7, "cj_batch_id": "-1"}
    yield judged("an echo that contradicts us", {"request_metadata": echo})
    yield judged("another event's type", event_type="")
    yield judged("another correlation id around it", correlation_id=own("outside"))
    name = "a winner twice, of which the last counts"
    yield written(name, swapped(answer(name), '"winner"', '"winner": "Essay B", "winner"'), Becomes.JUDGED, "essay_a")
    name = "space around an answer"
    yield written(name, b" \r\n\t" + answer(name) + b"\n ", Becomes.JUDGED, "essay_a")


def _errors() -> Iterator[Case]:
    name = "an error of NUL characters and odd numbers"
    details = {"\0k": "\0", "nan": float("nan"), "inf": float("inf"), "large": 10**40, "stack_trace": "secret"}
    odd = error(name, message="\0", service="\0", details=details)
    yield written(name, answer(name, odd), Becomes.ERROR, "RATE_LIMIT")
    name = "an error with a long story"
    long = error(name, message="x" * 1_000_000, stack_trace="y" * 1_000_000)
    yield written(name, answer(name, long), Becomes.ERROR, "RATE_LIMIT")
    name = "the winner Error"
    yield written(name, answer(name, {"winner": "Error", "confidence": None}), Becomes.ERROR, "INVALID_RESPONSE")
    for code in FINAL_CODES:
        name = f"an answer of {code}"
        yield written(name, answer(name, error(name, code)), Becomes.FINAL_ERROR, code)
