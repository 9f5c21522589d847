import json
import traceback
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjtasks.contracts.callback import Answer, read_answer, read_callback
from cjtasks.contracts.error_codes import ErrorCode
from cjtasks.errors import UnreadableMessage

CORRELATION_ID = "5cc7afdf-81ba-50ea-9268-2262c6798924"
BIGINT = 2**63 - 1
SHA256 = "05febd783de15b9ab2d9ca0fbcff42dc05febd783de15b9ab2d9ca0fbcff42dc"


def result(**changes: Any) -> dict[str, Any]:
    return {
        "request_id": "q-1",
        "correlation_id": CORRELATION_ID,
        "winner": "Essay A",
        "justification": "The clearer thesis.",
        "confidence": 4.2,
        "provider": "openai",
        "model": "a-model",
        "response_time_ms": 2140,
        "token_usage": {"prompt_tokens": 1850, "completion_tokens": 62, "total_tokens": 1912},
        "cost_estimate": 0.02,
        "requested_at": "2026-03-02T09:15:05Z",
        "completed_at": "2026-03-02T09:15:09Z",
        "request_metadata": {"prompt_sha256": SHA256, "resolved_provider": "anthropic"},
        **changes,
    }


def error(**changes: Any) -> dict[str, Any]:
    return {
        "error_code": "RATE_LIMIT",
        "message": "Too many requests",
        "correlation_id": CORRELATION_ID,
        "timestamp": "2026-03-02T09:15:09Z",
        "service": "llm_provider_service",
        "operation": "provider_call",
        **changes,
    }


def failure(**changes: Any) -> dict[str, Any]:
    """Make a result without a verdict; the changes go to its error."""
    return result(winner=None, justification=None, confidence=None, error_detail=error(**changes))


def encoded(data: Any) -> bytes:
    envelope = {
        "event_type": "LLMComparisonResultV1",
        "source_service": "the_sender",
        "correlation_id": "00000000-0000-4000-8000-000000000000",
        "data": data,
    }
    return json.dumps(envelope).encode()


def answer(data: Any) -> Answer:
    return read_callback(encoded(data))


def refusal_of(data: Any) -> UnreadableMessage:
    with pytest.raises(UnreadableMessage) as refusal:
        answer(data)
    return refusal.value


def test_a_success_is_flattened() -> None:
    assert answer(result()) == Answer(
        correlation_id=UUID(CORRELATION_ID),
        request_id="q-1",
        winner="essay_a",
        confidence=4.2,
        justification="The clearer thesis.",
        error_code=None,
        error_message=None,
        error_service=None,
        error_details=None,
        judged_at=datetime(2026, 3, 2, 9, 15, 9, tzinfo=UTC),
        provider="openai",
        model="a-model",
        response_time_ms=2140,
        prompt_tokens=1850,
        completion_tokens=62,
        total_tokens=1912,
        cost=0.02,
    )


def test_an_answer_without_envelope_reads_the_same() -> None:
    assert read_answer(result()) == answer(result())
    with pytest.raises(UnreadableMessage, match="confidence"):
        read_answer(result(confidence=9))


def test_an_error_has_its_code_and_no_verdict_whatever_is_left_over() -> None:
    read = answer(failure(details={"status_code": 529}) | {"justification": "left over", "confidence": 3.0})
    assert (read.winner, read.justification, read.confidence) == (None, None, None)
    assert (read.error_code, read.error_message) == ("RATE_LIMIT", "Too many requests")
    assert (read.error_service, read.error_details) == ("llm_provider_service", {"status_code": 529})


def test_an_error_names_the_provider_that_was_really_asked() -> None:
    assert answer(failure()).provider == "anthropic"


@pytest.mark.parametrize("echo", [{}, {"resolved_provider": "nobody"}, {"resolved_provider": 5}])
def test_an_error_without_a_usable_echo_keeps_its_own_provider(echo: dict[str, Any]) -> None:
    assert answer(failure() | {"request_metadata": echo}).provider == "openai"


def test_a_code_is_a_plain_text_that_a_database_driver_knows() -> None:
    assert type(answer(failure()).error_code) is str


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_of_the_set_is_read(code: ErrorCode) -> None:
    assert answer(failure(error_code=code.value)).error_code == code.value


def test_the_winner_error_of_july_2025_is_an_invalid_response() -> None:
    read = answer(result(winner="Error", justification="n/a", confidence=1.0))
    assert (read.winner, read.confidence, read.error_code) == (None, None, "INVALID_RESPONSE")
    assert read.error_service == "the_sender"
    assert read.provider == "anthropic"


def test_the_winner_error_needs_no_justification_and_a_detail_beside_it_tells_more() -> None:
    assert answer(result(winner="Error", justification=None, confidence=None)).winner is None
    assert answer(failure() | {"winner": "Error"}).error_code == "RATE_LIMIT"


def test_each_winner_is_stored_as_its_side() -> None:
    assert answer(result(winner="Essay A")).winner == "essay_a"
    assert answer(result(winner="Essay B")).winner == "essay_b"


def test_stack_traces_are_left_out_at_any_depth() -> None:
    details = {"stack_trace": "x", "inner": [{"Traceback": "y", "status_code": 500}]}
    read = answer(failure(details=details, stack_trace="File secret.py"))
    assert read.error_details == {"inner": [{"status_code": 500}]}


def test_no_nul_reaches_the_database() -> None:
    texts = answer(result(justification="a\0b", model="m\0", request_id="\0q"))
    assert (texts.justification, texts.model, texts.request_id) == ("ab", "m", "q")
    read = answer(failure(message="a\0b", service="s\0", details={"k\0": ["v\0"]}))
    assert (read.error_message, read.error_service, read.error_details) == ("ab", "s", {"k": ["v"]})


def test_error_details_are_strict_json_that_postgres_can_hold() -> None:
    details = {"nan": float("nan"), "inf": float("inf"), "huge": 10**30, "yes": True, "none": None}
    read = answer(failure(details=details))
    assert read.error_details == {"nan": None, "inf": None, "huge": BIGINT, "yes": True, "none": None}
    json.dumps(read.error_details, allow_nan=False)


def test_an_infinite_cost_is_unknown() -> None:
    assert answer(result(cost_estimate=float("inf"))).cost is None


def test_integers_are_held_to_a_bigint() -> None:
    usage = {"prompt_tokens": 10**30, "completion_tokens": 10**30, "total_tokens": 10**30}
    read = answer(result(response_time_ms=10**26, token_usage=usage))
    assert {read.response_time_ms, read.prompt_tokens, read.completion_tokens, read.total_tokens} == {BIGINT}


@pytest.mark.parametrize(
    "changes",
    [
        {"confidence": True},
        {"confidence": "4.5"},
        {"confidence": 5},
        {"justification": ""},
        {"justification": "\N{PERSONAL COMPUTER}" * 500},
        {"model": ""},
        {"request_id": ""},
        {"response_time_ms": "2140"},
        {"response_time_ms": 12.0},
        {"cost_estimate": 0},
        {"requested_at": "2026-03-02"},
        {"requested_at": -1},
        {"completed_at": "2026-03-02T09:15:09"},
        {"token_usage": {}},
        {"request_metadata": {}},
        {"unknown": {"key": 1}},
    ],
)
def test_a_value_at_the_edge_is_accepted(changes: dict[str, Any]) -> None:
    assert answer(result(**changes)).winner == "essay_a"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"winner": "essay_a"}, "winner"),
        ({"confidence": 0.999}, "confidence"),
        ({"confidence": 5.001}, "confidence"),
        ({"confidence": float("nan")}, "confidence"),
        ({"justification": "x" * 501}, "justification"),
        ({"provider": "OpenAI"}, "provider"),
        ({"model": None}, "model"),
        ({"request_id": 5}, "request_id"),
        ({"correlation_id": None}, "correlation_id"),
        ({"response_time_ms": -1}, "response_time_ms"),
        ({"cost_estimate": float("nan")}, "cost_estimate"),
        ({"token_usage": None}, "token_usage"),
        ({"token_usage": {"total_tokens": -1}}, "token_usage.total_tokens"),
        ({"request_metadata": None}, "request_metadata"),
        ({"completed_at": "soon"}, "completed_at"),
        ({"winner": None}, ""),
        ({"confidence": None}, ""),
        ({"justification": None}, ""),
        ({"error_detail": error()}, ""),
        ({"winner": None, "error_detail": error(error_code="rate_limit")}, "error_detail.error_code"),
        ({"winner": None, "error_detail": error(details=None)}, "error_detail.details"),
        ({"winner": None, "error_detail": error(timestamp=None)}, "error_detail.timestamp"),
    ],
)
def test_what_the_contract_forbids_is_refused_by_its_field(changes: dict[str, Any], field: str) -> None:
    refusal = refusal_of(result(**changes))
    assert (refusal.level, refusal.field) == ("data", field)


@pytest.mark.parametrize("data", [None, 5, [], "text", {}])
def test_a_payload_that_is_no_answer_is_refused_at_the_data_level(data: object) -> None:
    assert refusal_of(data).level == "data"


def test_the_envelope_is_blamed_before_its_data() -> None:
    payload = b'{"event_type": "e", "data": {}, "metadata": 5}'
    with pytest.raises(UnreadableMessage) as refusal:
        read_callback(payload)
    assert (refusal.value.level, refusal.value.field) == ("envelope", "source_service")


@pytest.mark.parametrize("field", sorted(result()))
def test_a_refusal_shows_nothing_of_the_answer(field: str) -> None:
    refusal = refusal_of(result(**{field: ["Dear-Diary"]}))
    assert "Dear" not in "".join(traceback.format_exception(refusal))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "details", "\0"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*result(), "error_detail"]), json_values, max_size=3))
def test_any_change_is_read_or_refused_as_unreadable(changes: dict[str, Any]) -> None:
    try:
        read = answer(result(**changes))
    except UnreadableMessage:
        return
    assert (read.winner is None) != (read.error_code is None)


@given(json_values)
def test_whatever_the_details_hold_no_text_carries_a_nul(details: Any) -> None:
    read = answer(failure(details={"any": details}))
    values = list(read)
    assert "\\u0000" not in json.dumps(values, default=str, allow_nan=False)
