import json
from typing import Any
from uuid import UUID

import pytest

from cjtasks.contracts.provider import ComparisonRequest, JudgeSettings, read_queue_id
from cjtasks.domain.prompts import EssayText, comparison_prompt

CORRELATION_ID = UUID("8e5edf36-deb0-590c-ac17-3826b5810ee6")
PROMPT = comparison_prompt(EssayText("a1", "Text A"), EssayText("b1", "Text B"), None, None)


def body(**judge: Any) -> dict[str, Any]:
    settings = {"provider": "openai", "model": "m", "temperature": 0.0, "system_prompt": "Judge.", **judge}
    return ComparisonRequest(
        user_prompt=PROMPT.text,
        prompt_blocks=PROMPT.blocks,
        callback_topic="answers",
        correlation_id=CORRELATION_ID,
        judge=JudgeSettings(**settings),
        metadata={"essay_a_id": "a1"},
    ).body()


def test_the_body_carries_prompt_topic_and_correlation_id() -> None:
    sent = json.loads(json.dumps(body()))
    assert sent["user_prompt"] == PROMPT.text
    assert sent["callback_topic"] == "answers"
    assert sent["correlation_id"] == str(CORRELATION_ID)
    assert sent["metadata"] == {"essay_a_id": "a1"}
    assert sent["prompt_blocks"][0] == {
        "target": "user_content",
        "content": "**Essay A (ID: a1):**\nText A",
        "cacheable": False,
        "ttl": "5m",
        "content_hash": PROMPT.blocks[0].content_hash,
    }


def test_what_is_not_set_is_left_out_and_a_temperature_of_zero_is_set() -> None:
    assert body()["llm_config_overrides"] == {
        "provider_override": "openai",
        "model_override": "m",
        "temperature_override": 0.0,
        "system_prompt_override": "Judge.",
    }


def test_what_is_set_is_sent_under_the_name_that_the_provider_reads() -> None:
    overrides = body(max_tokens=800, reasoning_effort="low", output_verbosity="high")["llm_config_overrides"]
    assert overrides["max_tokens_override"] == 800
    assert overrides["reasoning_effort"] == "low"
    assert overrides["output_verbosity"] == "high"


def test_the_queue_id_is_read() -> None:
    assert read_queue_id({"queue_id": "q-1", "status": "queued"}) == "q-1"


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": "REQUEST_QUEUED"}},
        {"queue_id": None},
        {"queue_id": ""},
        {"queue_id": 7},
        [],
        "q",
        None,
    ],
)
def test_an_answer_without_a_queue_id_has_none(answer: object) -> None:
    assert read_queue_id(answer) is None
