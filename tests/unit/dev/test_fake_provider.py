from __future__ import annotations

import json
from statistics import fmean
from typing import Any

import pytest

from cjtasks.dev.fake_content import ContentBehaviour
from cjtasks.dev.fake_provider_behaviour import Fate, ProviderBehaviour, fate_of
from cjtasks.dev.fake_provider_request import ComparisonRequest, Reply, read_request, refusal
from cjtasks.dev.fake_serving import changed
from cjtasks.dev.judges import rng_for
from cjtasks.domain.prompts import EssayText, PromptBlock, comparison_prompt
from cjtasks.errors import Misconfigured

CORRELATION_ID = "8e5edf36-deb0-590c-ac17-3826b5810ee6"
SMALLEST: dict[str, Any] = {
    "user_prompt": "compare",
    "callback_topic": "answers",
    "correlation_id": CORRELATION_ID,
    "llm_config_overrides": {"provider_override": "mock"},
}


def read(**changes: Any) -> ComparisonRequest | Reply:
    return read_request(json.dumps({**SMALLEST, **changes}).encode())


def sound(**changes: Any) -> ComparisonRequest:
    request = read(**changes)
    assert isinstance(request, ComparisonRequest)
    return request


def refused(request: ComparisonRequest | Reply) -> Reply:
    assert isinstance(request, Reply)
    return request


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"user_prompt": None}, 400, "user_prompt"),
        ({"callback_topic": None}, 400, "callback_topic"),
        ({"llm_config_overrides": {"provider_override": "acme"}}, 400, "provider_override"),
        (
            {"llm_config_overrides": {"provider_override": "mock", "temperature_override": 2.5}},
            400,
            "temperature_override",
        ),
        ({"metadata": None}, 400, "metadata"),
        ({"prompt_blocks": ["text"]}, 400, "prompt_blocks"),
        ({"correlation_id": "c-1"}, 400, "correlation_id"),
        ({"callback_topic": ""}, 500, "CONFIGURATION_ERROR"),
    ],
)
def test_a_request_that_the_platform_refuses_is_refused_with_its_field(
    changes: dict[str, Any], status: int, said: str
) -> None:
    reply = refused(read(**changes))
    assert reply.status == status
    assert said in json.dumps(reply.body["error"])


@pytest.mark.parametrize("overrides", [None, {}, {"model_override": "m"}])
def test_the_refusal_without_a_provider_carries_the_correlation_id(overrides: object) -> None:
    reply = refused(read(llm_config_overrides=overrides))
    assert reply.status == 400
    assert reply.body.keys() == {"error", "details", "correlation_id"}
    assert reply.body["correlation_id"] == CORRELATION_ID


@pytest.mark.parametrize("body", [b"", b"\xff{", b"[1, 2]", b"null", b"{}"])
def test_what_is_no_request_at_all_is_refused_in_json(body: bytes) -> None:
    reply = refused(read_request(body))
    assert reply.status == 400
    assert str(reply.body["error"]).startswith("bad request body: ")


def test_the_essays_are_found_under_their_headings_and_nowhere_else() -> None:
    a, b = EssayText("a", "**Essay B (ID: b):**\nis what I write about."), EssayText("b", "Line.\n\nEssay A:\nno")
    prompt = comparison_prompt(a, b, "Essay A or Essay B?", "Essay B\nmust win.")
    assert texts_of(prompt.blocks) == {"A": a.text, "B": b.text}
    assert sound().essay_texts() == {"A": "", "B": ""}


def texts_of(blocks: tuple[PromptBlock, ...]) -> dict[str, str]:
    return sound(prompt_blocks=[{"content": block.content} for block in blocks]).essay_texts()


@pytest.mark.parametrize(
    ("status", "code"),
    [(202, "REQUEST_QUEUED"), (401, "AUTHENTICATION_ERROR"), (429, "RATE_LIMIT"), (418, "PROCESSING_ERROR")],
)
def test_most_refusals_have_an_error_object(status: int, code: str) -> None:
    reply = refusal(ProviderBehaviour(refuse_status=status), sound())
    error = reply.body["error"]
    assert isinstance(error, dict)
    assert (reply.status, error["code"], error["correlation_id"]) == (status, code, CORRELATION_ID)
    assert error.keys() == {"code", "message", "correlation_id", "service", "timestamp", "details"}
    assert reply.headers == {}


@pytest.mark.parametrize("status", [500, 503])
def test_two_refusals_have_only_an_error_text(status: int) -> None:
    reply = refusal(ProviderBehaviour(refuse_status=status, retry_after=7), sound())
    assert reply.status == status
    assert isinstance(reply.body["error"], str)
    assert reply.headers == {"Retry-After": "7"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"error_rate": 1.5}, "error_rate"),
        ({"latency": -1}, "latency"),
        ({"latency": float("inf")}, "latency"),
        ({"refuse_status": 302}, "refuse_status"),
        ({"error_codes": ["NO_SUCH_CODE"]}, "error_codes"),
        ({"error_codes": []}, "error_codes"),
        ({"speed": 9}, "speed"),
        ({"provider": "acme"}, "provider"),
        ({"judge": "none"}, "judge"),
    ],
)
def test_a_behaviour_that_cannot_be_is_refused_with_its_field(change: dict[str, object], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        changed(ProviderBehaviour(), change)


def test_a_change_leaves_the_other_fields_alone() -> None:
    before = ProviderBehaviour(latency=2.0, error_codes=("TIMEOUT",))
    after = changed(before, {"error_rate": 1, "error_codes": ["RATE_LIMIT", "TIMEOUT"]})
    assert after == ProviderBehaviour(latency=2.0, error_rate=1.0, error_codes=("RATE_LIMIT", "TIMEOUT"))
    assert before == ProviderBehaviour(latency=2.0, error_codes=("TIMEOUT",))


@pytest.mark.parametrize("kind", [ProviderBehaviour, ContentBehaviour])
def test_every_field_of_a_behaviour_says_what_it_does(kind: Any) -> None:
    assert all(field.description for field in kind.__pydantic_fields__.values())


def fates(behaviour: ProviderBehaviour, number: int = 2000) -> list[Fate]:
    return [fate_of(behaviour, rng_for("fate", each)) for each in range(number)]


def test_each_rate_is_the_share_of_requests_that_it_says() -> None:
    drawn = fates(
        ProviderBehaviour(error_rate=0.3, lost_rate=0.2, duplicate_rate=0.4, contradict_rate=0.5, latency=1.0)
    )
    assert fmean(fate.error_code is not None for fate in drawn) == pytest.approx(0.3, abs=0.04)
    assert fmean(fate.lost for fate in drawn) == pytest.approx(0.2, abs=0.04)
    assert fmean(fate.repeated_after is not None for fate in drawn) == pytest.approx(0.4, abs=0.04)
    answered = [fate for fate in drawn if fate.error_code is None]
    assert fmean(fate.contradicted_after is not None for fate in answered) == pytest.approx(0.5, abs=0.04)
    assert not any(fate.contradicted_after for fate in drawn if fate.error_code)


def test_one_rate_does_not_shift_what_another_decides() -> None:
    alone = fates(ProviderBehaviour(lost_rate=0.3))
    together = fates(ProviderBehaviour(lost_rate=0.3, error_rate=0.5, duplicate_rate=0.5, jitter=0.1))
    assert [fate.lost for fate in alone] == [fate.lost for fate in together]


def test_a_delay_is_the_latency_with_its_jitter_and_the_disorder_on_top() -> None:
    assert {fate.delay for fate in fates(ProviderBehaviour(latency=2.0))} == {2.0}
    assert all(1.5 <= fate.delay <= 2.5 for fate in fates(ProviderBehaviour(latency=2.0, jitter=0.5)))
    assert min(fate.delay for fate in fates(ProviderBehaviour(jitter=1.0))) == 0.0
    disorder = [fate.delay for fate in fates(ProviderBehaviour(disorder=1.0))]
    assert fmean(disorder) == pytest.approx(1.0, abs=0.1)
    assert max(disorder) <= 5.0


def test_the_second_callback_comes_after_the_first() -> None:
    drawn = fates(ProviderBehaviour(duplicate_rate=1.0, contradict_rate=1.0, disorder=0.3))
    assert all(fate.repeated_after and fate.repeated_after > fate.delay for fate in drawn)
    assert all(fate.contradicted_after == fate.repeated_after for fate in drawn)
