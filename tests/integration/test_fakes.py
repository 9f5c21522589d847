"""The fake LLM Provider, asked over real HTTP, with a list for Kafka."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import requests

from cjtasks.contracts.callback import read_callback
from cjtasks.dev import fake_provider
from cjtasks.dev.demo_essays import demo_essays
from cjtasks.dev.fake_provider import FakeProvider, ProviderBehaviour
from cjtasks.dev.judges import LatentJudge, Shown, Verdict
from cjtasks.domain.prompts import EssayText, comparison_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

TOPIC = "answers"
ESSAYS = demo_essays()
PATIENCE = 30.0


def asked(number: int = 0, **changes: Any) -> dict[str, Any]:
    """The body of a comparison of Ines's strong and Chidi's weak essay; the number makes its correlation id."""
    strong, weak = EssayText("Ines", ESSAYS["Ines"]), EssayText("Chidi", ESSAYS["Chidi"])
    prompt = comparison_prompt(strong, weak, "Essay A or B: write about cars.", None)
    body: dict[str, Any] = {
        "user_prompt": prompt.text,
        "prompt_blocks": [{"target": block.target, "content": block.content} for block in prompt.blocks],
        "callback_topic": TOPIC,
        "correlation_id": str(UUID(int=number)),
        "llm_config_overrides": {"provider_override": "anthropic", "model_override": "claude-haiku-4-5"},
        "metadata": {"essay_a_id": "Ines", "essay_b_id": "Chidi", "cj_batch_id": "42"},
    }
    return {**body, **changes}


class Asker:
    """A provider that runs, its address, and what its sink got."""

    def __init__(self, provider: FakeProvider, url: str, sent: list[tuple[str, bytes]]) -> None:
        self.provider, self.url, self.sent = provider, url, sent
        self.root = url.removesuffix("/api/v1")

    def ask(self, body: object) -> requests.Response:
        return requests.post(f"{self.url}/comparison", json=body, timeout=PATIENCE)

    def behave(self, **changes: object) -> requests.Response:
        return requests.post(f"{self.root}/behaviour", json=changes, timeout=PATIENCE)

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = requests.get(f"{self.root}/stats", timeout=PATIENCE).json()
        return found

    def answers(self) -> list[dict[str, Any]]:
        """Every callback's data, once nothing is pending any more."""
        eventually(lambda: self.stats()["pending"] == 0)
        return [json.loads(payload)["data"] for _, payload in self.sent]


def eventually(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@contextmanager
def asking(judge: Any = None, **behaviour: Any) -> Iterator[Asker]:
    sent: list[tuple[str, bytes]] = []
    provider = FakeProvider(lambda topic, payload: sent.append((topic, payload)), ProviderBehaviour(**behaviour), judge)
    with fake_provider.running(provider) as url:
        yield Asker(provider, url, sent)


def test_a_comparison_is_queued_and_its_answer_comes_to_the_topic_that_was_asked_for() -> None:
    with asking(cost_per_call=0.02) as lps:
        reply = lps.ask(asked())
        data = lps.answers()[0]
    assert reply.status_code == 202
    assert reply.json()["status"] == "queued"
    assert reply.json().keys() == {"queue_id", "status", "message", "estimated_wait_minutes"}
    assert lps.sent[0][0] == TOPIC
    assert (data["request_id"], data["correlation_id"]) == (reply.json()["queue_id"], str(UUID(int=0)))
    assert (data["winner"], data["error_detail"], data["cost_estimate"]) == ("Essay A", None, 0.02)
    assert (data["provider"], data["model"]) == ("anthropic", "claude-haiku-4-5")
    assert "more" in data["justification"]


def test_error_callbacks_bring_the_codes_that_were_chosen() -> None:
    with asking(error_rate=1.0, error_codes=("TIMEOUT", "QUOTA_EXCEEDED")) as lps:
        for number in range(20):
            lps.ask(asked(number))
        answers = lps.answers()
        stats = lps.stats()
    assert {data["error_detail"]["error_code"] for data in answers} == {"TIMEOUT", "QUOTA_EXCEEDED"}
    assert (stats["errors"], stats["callbacks"]) == (20, 20)


@pytest.mark.parametrize(("change", "status"), [({"metadata": None}, 400), ({"callback_topic": ""}, 500)])
def test_an_unsound_request_is_refused_in_json_counted_and_never_answered(change: dict[str, Any], status: int) -> None:
    with asking() as lps:
        reply = lps.ask(asked(**change))
        stats = lps.stats()
    assert (reply.status_code, reply.headers["Content-Type"]) == (status, "application/json")
    assert "error" in reply.json()
    assert (stats["invalid"], stats["accepted"], stats["pending"], lps.sent) == (1, 0, 0, [])


def test_a_full_queue_answers_202_without_a_queue_id_and_says_when_to_come_back() -> None:
    with asking(refuse_rate=1.0, refuse_status=202, retry_after=7) as lps:
        reply = lps.ask(asked())
        stats = lps.stats()
    assert (reply.status_code, reply.headers["Retry-After"]) == (202, "7")
    assert reply.json().keys() == {"error"}
    assert (stats["refused"], stats["accepted"], stats["correlation_ids"], lps.sent) == (1, 0, 0, [])


def test_the_smallest_request_is_answered_under_a_correlation_id_that_nobody_knows() -> None:
    with asking() as lps:
        overrides = {"provider_override": "mock"}
        reply = lps.ask({"user_prompt": "compare", "callback_topic": TOPIC, "llm_config_overrides": overrides})
        data = lps.answers()[0]
    assert "correlation_id" not in reply.json()
    assert read_callback(lps.sent[0][1]).correlation_id == UUID(data["correlation_id"])


def test_an_outage_can_be_switched_on_and_off_while_it_runs() -> None:
    with asking() as lps:
        assert lps.ask(asked(1)).status_code == 202
        assert lps.behave(refuse_rate=1, refuse_status=503).json()["refuse_rate"] == 1.0
        assert lps.ask(asked(2)).status_code == 503
        assert lps.behave(refuse_rate=0).json()["refuse_status"] == 503
        assert lps.ask(asked(2)).status_code == 202
        shown = requests.get(f"{lps.root}/behaviour", timeout=PATIENCE).json()
        assert ProviderBehaviour(**shown) == lps.provider.behaviour
        stats = lps.stats()
    assert (stats["requests"], stats["refused"], stats["accepted"], stats["asked_again"]) == (3, 1, 2, 0)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]"])
def test_a_change_that_is_no_json_object_is_refused(body: bytes) -> None:
    with asking() as lps:
        assert requests.post(f"{lps.root}/behaviour", data=body, timeout=PATIENCE).status_code == 400


def test_asking_twice_is_seen_and_answered_twice_under_the_same_correlation_id() -> None:
    with asking() as lps:
        first, second = lps.ask(asked(3)).json(), lps.ask(asked(3)).json()
        lps.ask(asked(4))
        answers = lps.answers()
        stats = lps.stats()
    assert (stats["accepted"], stats["correlation_ids"], stats["asked_again"]) == (3, 2, 1)
    assert [data["request_id"] for data in answers[:2]] == [first["queue_id"], second["queue_id"]]


def test_a_duplicate_says_the_same_again_in_an_event_of_its_own() -> None:
    with asking(duplicate_rate=1.0) as lps:
        lps.ask(asked())
        first, second = lps.answers()
        stats = lps.stats()
    assert (first["winner"], first["request_id"]) == (second["winner"], second["request_id"])
    assert json.loads(lps.sent[0][1])["event_id"] != json.loads(lps.sent[1][1])["event_id"]
    assert (stats["duplicates"], stats["contradictions"], stats["callbacks"]) == (1, 0, 2)


def test_a_contradiction_comes_after_the_answer_and_names_the_other_winner() -> None:
    with asking(contradict_rate=1.0) as lps:
        lps.ask(asked())
        winners = [data["winner"] for data in lps.answers()]
        stats = lps.stats()
    assert winners == ["Essay A", "Essay B"]
    assert (stats["duplicates"], stats["contradictions"]) == (1, 1)


def test_a_lost_request_is_accepted_and_never_answered() -> None:
    with asking(lost_rate=1.0) as lps:
        assert lps.ask(asked()).status_code == 202
        assert lps.answers() == []
        assert lps.stats()["lost"] == 1


def test_disorder_lets_answers_overtake_each_other() -> None:
    with asking(disorder=0.05) as lps:
        queued = [lps.ask(asked(number)).json()["queue_id"] for number in range(40)]
        answered = [data["request_id"] for data in lps.answers()]
    assert sorted(answered) == sorted(queued)
    assert answered != queued


def test_without_disorder_answers_come_in_the_order_of_the_questions() -> None:
    with asking(latency=0.05) as lps:
        queued = [lps.ask(asked(number)).json()["queue_id"] for number in range(20)]
        assert [data["request_id"] for data in lps.answers()] == queued


def test_the_answer_never_comes_before_its_latency_has_passed() -> None:
    with asking(latency=0.2, jitter=0.05) as lps:
        started = time.monotonic()
        lps.ask(asked())
        lps.answers()
        assert time.monotonic() - started >= 0.15


def test_a_held_back_acceptance_was_queued_all_the_same() -> None:
    with asking(accept_delay=2.0) as lps:
        with pytest.raises(requests.Timeout):
            requests.post(f"{lps.url}/comparison", json=asked(), timeout=0.2)
        assert len(lps.answers()) == 1


def outcomes(order: range, **behaviour: Any) -> dict[str, tuple[Any, ...]]:
    equals = LatentJudge(scores={"Ines": 0.0, "Chidi": 0.0})
    with asking(equals, **behaviour) as lps:
        for number in order:
            lps.ask(asked(number))
        answers = lps.answers()
    return {
        data["correlation_id"]: (data["winner"], data["error_detail"] and data["error_detail"]["error_code"])
        for data in answers
    }


def test_the_same_seed_gives_the_same_fates_and_verdicts_whatever_the_order() -> None:
    rates: dict[str, Any] = {"error_rate": 0.3, "lost_rate": 0.2, "disorder": 0.002}
    forwards = outcomes(range(60), seed=5, **rates)
    assert forwards == outcomes(range(59, -1, -1), seed=5, **rates)
    assert forwards != outcomes(range(60), seed=6, **rates)
    assert {"Essay A", "Essay B", None} == {winner for winner, _ in forwards.values()}
    assert 0 < len(forwards) < 60


def test_a_judge_is_shown_ids_texts_and_how_often_it_was_asked() -> None:
    seen: list[Shown] = []

    def judge(shown: Shown, _rng: Random) -> Verdict:
        seen.append(shown)
        return Verdict("Essay B", 2.5, "because")

    with asking(judge) as lps:
        lps.ask(asked(1))
        lps.ask(asked(1))
        answers = lps.answers()
    assert seen == [Shown("Ines", "Chidi", ESSAYS["Ines"], ESSAYS["Chidi"], attempt) for attempt in (1, 2)]
    assert [(data["winner"], data["confidence"], data["justification"]) for data in answers] == [
        ("Essay B", 2.5, "because")
    ] * 2


def test_the_judge_that_the_behaviour_names_repeats_itself_under_new_correlation_ids() -> None:
    equals = {"essay_a_id": "x", "essay_b_id": "x"}
    with asking(judge=None) as lps:
        assert lps.behave(judge="latent", seed=11).status_code == 200
        for _ in range(12):
            lps.ask(asked(correlation_id=str(uuid4()), metadata=equals))
        assert len({data["winner"] for data in lps.answers()}) == 1


def test_the_old_ways_to_fetch_an_answer_are_not_found_and_its_health_is_told() -> None:
    with asking() as lps:
        queue_id = lps.ask(asked()).json()["queue_id"]
        for old in ("status", "results"):
            assert requests.get(f"{lps.url}/{old}/{queue_id}", timeout=PATIENCE).status_code == 404
        health = requests.get(f"{lps.root}/healthz", timeout=PATIENCE)
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert health.json()["service"] == "llm_provider_service"
