import json
from typing import Any

import pytest

from cjtasks.contracts.request import (
    ReceivedRequest,
    batch_config,
    max_comparisons,
    read_request,
    refuse_unusable,
)
from cjtasks.errors import RequestRefused

CORRELATION_ID = "85618430-622c-43f2-b8fe-223481eb1980"


def received(metadata: dict[str, Any] | None = None, **changes: Any) -> ReceivedRequest:
    essays = [{"essay_id": essay_id, "text_storage_id": "t"} for essay_id in ("e-1", "e-2")]
    data = {
        "entity_id": "batch-1",
        "system_metadata": {"entity_id": "batch-1", "entity_type": "batch"},
        "essays_for_cj": essays,
        "language": "en",
        "course_code": "ENG5",
        "user_id": "teacher-1",
        **changes,
    }
    shell = {"event_type": "any", "source_service": "els", "correlation_id": CORRELATION_ID}
    return read_request(json.dumps({**shell, "data": data, "metadata": metadata}).encode())


def refused(request: ReceivedRequest) -> RequestRefused:
    with pytest.raises(RequestRefused) as refusal:
        refuse_unusable(request)
    return refusal.value


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"essays_for_cj": []}, "essays_for_cj"),
        ({"essays_for_cj": [{"essay_id": "e", "text_storage_id": "t"}] * 2}, "essays_for_cj.1.essay_id"),
        ({"user_id": ""}, "user_id"),
        ({"llm_config_overrides": {"provider_override": "nobody"}}, "llm_config_overrides.provider_override"),
        ({"llm_config_overrides": {"reasoning_effort": "extreme"}}, "llm_config_overrides.reasoning_effort"),
        ({"llm_config_overrides": {"output_verbosity": "none"}}, "llm_config_overrides.output_verbosity"),
        ({"metadata": {"batch_config_overrides": {"batch_size": 9}}}, "batch_config_overrides.batch_size"),
    ],
)
def test_what_we_cannot_honour_is_refused_with_code_field_and_correlation_id(
    changes: dict[str, Any], field: str
) -> None:
    refusal = refused(received(**changes))
    assert refusal.error_code == "VALIDATION_ERROR"
    assert refusal.error_detail.details == {"field": field}
    assert field in refusal.error_detail.message
    assert refusal.correlation_id == CORRELATION_ID


@pytest.mark.parametrize("provider", ["anthropic", " OpenAI\n", "GOOGLE", "openrouter", "mock"])
def test_a_known_provider_is_taken_in_any_spelling(provider: str) -> None:
    refuse_unusable(received(llm_config_overrides={"provider_override": provider}))


def test_every_effort_and_verbosity_that_the_provider_knows_is_taken() -> None:
    for effort in ("none", "low", "medium", "high", None):
        refuse_unusable(received(llm_config_overrides={"reasoning_effort": effort}))
    for verbosity in ("low", "medium", "high", None):
        refuse_unusable(received(llm_config_overrides={"output_verbosity": verbosity}))


def test_only_a_short_provider_name_is_echoed() -> None:
    short = refused(received(llm_config_overrides={"provider_override": "nobody"}))
    long = refused(received(llm_config_overrides={"provider_override": "Dear Diary " * 10}))
    assert "'nobody'" in str(short)
    assert "diary" not in str(long)


@pytest.mark.parametrize(
    ("given_value", "budget"),
    [(24, 24), (1, 1), (0, None), (-3, None), (True, None), ("24", None), (2.0, None), (None, None)],
)
def test_only_a_positive_integer_is_a_budget(given_value: object, budget: int | None) -> None:
    assert max_comparisons({"max_comparisons": given_value}) == budget


def test_without_metadata_nothing_is_configured() -> None:
    assert max_comparisons(None) is None
    assert batch_config(None) == batch_config({}) == batch_config({"batch_config_overrides": None})


def test_a_batch_configuration_within_its_limits_is_read() -> None:
    given_values = {
        "batch_size": 200,
        "max_concurrent_batches": 5,
        "partial_completion_threshold": 0.5,
        "llm_batching_mode_override": "per_request",
    }
    assert batch_config({"batch_config_overrides": given_values}).model_dump() == given_values


@pytest.mark.parametrize(
    ("given_value", "field"),
    [
        ({"batch_size": 9}, "batch_config_overrides.batch_size"),
        ({"batch_size": 201}, "batch_config_overrides.batch_size"),
        ({"max_concurrent_batches": 0}, "batch_config_overrides.max_concurrent_batches"),
        ({"max_concurrent_batches": 6}, "batch_config_overrides.max_concurrent_batches"),
        ({"partial_completion_threshold": 0.49}, "batch_config_overrides.partial_completion_threshold"),
        ({"partial_completion_threshold": 1.01}, "batch_config_overrides.partial_completion_threshold"),
        ({"llm_batching_mode_override": "telepathy"}, "batch_config_overrides.llm_batching_mode_override"),
        ("fast", "batch_config_overrides"),
    ],
)
def test_a_batch_configuration_out_of_range_is_refused_by_its_field(given_value: object, field: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        batch_config({"batch_config_overrides": given_value})
    assert refusal.value.error_detail.details["field"] == field
    assert refusal.value.__context__ is None
