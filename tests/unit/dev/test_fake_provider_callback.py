from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator

from cjtasks.contracts.callback import read_callback
from cjtasks.dev.fake_provider_behaviour import ProviderBehaviour
from cjtasks.dev.fake_provider_callback import Question, failure, success
from cjtasks.dev.fake_provider_request import ComparisonRequest
from cjtasks.dev.judges import Verdict

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "contracts" / "fixtures"
CORRELATION_ID = "8e5edf36-deb0-590c-ac17-3826b5810ee6"
PROMPT = "Which is better? \u00e5\U0001f600"
CLAUDE = {"provider_override": "anthropic", "model_override": "claude-haiku-4-5"}
VERDICT = Verdict("Essay B", 3.5, "It has a thesis.")


def question(behaviour: ProviderBehaviour | None = None, **changes: Any) -> Question:
    body = {
        "user_prompt": PROMPT,
        "callback_topic": "answers",
        "llm_config_overrides": CLAUDE,
        "metadata": {"essay_a_id": "a", "own": [1, {"x": None}]},
    }
    return Question(
        request=ComparisonRequest.model_validate({**body, **changes}),
        behaviour=behaviour or ProviderBehaviour(),
        correlation_id=CORRELATION_ID,
        queue_id="q-1",
        attempt=1,
        requested_at=datetime.now(UTC),
    )


def data_of(payload: bytes) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(payload)["data"]
    return data


def test_our_own_contract_reads_a_success() -> None:
    answer = read_callback(success(question(ProviderBehaviour(cost_per_call=0.02)), VERDICT))
    assert (answer.correlation_id, answer.request_id) == (UUID(CORRELATION_ID), "q-1")
    assert (answer.winner, answer.confidence, answer.justification) == ("essay_b", 3.5, "It has a thesis.")
    assert (answer.provider, answer.model, answer.cost) == ("anthropic", "claude-haiku-4-5", 0.02)
    assert answer.prompt_tokens + answer.completion_tokens == answer.total_tokens > 0
    assert answer.error_code is None


def test_our_own_contract_reads_an_error() -> None:
    answer = read_callback(failure(question(), "RATE_LIMIT"))
    assert (answer.winner, answer.confidence, answer.error_code) == (None, None, "RATE_LIMIT")


@pytest.mark.parametrize(
    ("payload", "like"),
    [
        (success(question(), VERDICT), "success_anthropic.json"),
        (failure(question(), "RATE_LIMIT"), "error_rate_limit.json"),
    ],
    ids=["success", "error"],
)
def test_a_callback_has_the_fields_and_the_schema_of_the_platforms_own(payload: bytes, like: str) -> None:
    if not FIXTURES.is_dir():
        pytest.skip("the platform's fixtures are not beside this repository")
    example = json.loads((FIXTURES / "callbacks" / like).read_text("utf-8"))
    schema = json.loads((FIXTURES / "schemas" / "LLMComparisonResultV1.envelope.json").read_text("utf-8"))
    envelope = json.loads(payload)
    Draft202012Validator(schema).validate(envelope)
    assert list(envelope) == list(example)
    assert list(envelope["data"]) == list(example["data"])
    if example["data"]["error_detail"]:
        assert list(envelope["data"]["error_detail"]) == list(example["data"]["error_detail"])


def test_the_envelope_is_the_llm_providers() -> None:
    envelope = json.loads(success(question(), VERDICT))
    assert envelope["event_type"] == "LLMComparisonResultV1"
    assert envelope["source_service"] == "llm_provider_service"
    assert envelope["correlation_id"] == envelope["data"]["correlation_id"] == CORRELATION_ID
    assert (envelope["metadata"], envelope["data_schema_uri"], envelope["schema_version"]) == (None, None, 1)
    assert envelope["event_timestamp"].endswith("Z")


def test_the_metadata_comes_back_with_what_the_provider_resolved() -> None:
    digest = sha256(PROMPT.encode()).hexdigest()
    resolved = {"resolved_provider": "anthropic", "queue_processing_mode": "per_request"}
    for payload in (success(question(), VERDICT), failure(question(), "TIMEOUT")):
        assert data_of(payload)["request_metadata"] == {
            "essay_a_id": "a",
            "own": [1, {"x": None}],
            **resolved,
            "resolved_model": "claude-haiku-4-5",
            "prompt_sha256": digest,
        }


def test_without_a_model_override_no_model_is_echoed_but_one_is_named() -> None:
    data = data_of(success(question(llm_config_overrides={"provider_override": "openai"}), VERDICT))
    assert "resolved_model" not in data["request_metadata"]
    assert (data["provider"], data["model"]) == ("openai", "fake-judge-1")


def test_provider_and_model_can_be_named_by_the_behaviour() -> None:
    data = data_of(success(question(ProviderBehaviour(provider="google", model="gemini")), VERDICT))
    assert (data["provider"], data["model"]) == ("google", "gemini")
    assert data["request_metadata"]["resolved_provider"] == "google"


def test_an_error_hides_the_real_provider_as_the_platform_does() -> None:
    data = data_of(failure(question(), "TIMEOUT"))
    assert (data["provider"], data["model"], data["cost_estimate"]) == ("openai", "unknown", 0.0)
    assert data["error_detail"]["details"]["details"]["provider"] == "anthropic"
    assert data["request_metadata"]["resolved_provider"] == "anthropic"


def test_every_callback_is_an_event_of_its_own() -> None:
    same = question()
    ids = {json.loads(success(same, VERDICT))["event_id"] for _ in range(5)}
    assert len(ids) == 5
