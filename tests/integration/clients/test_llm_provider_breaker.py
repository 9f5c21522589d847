"""The circuit breaker around real HTTP: outages open it, one probe closes it, and it never makes threads queue."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from cjtasks.clients.llm_provider import LLMProviderServiceClient, Submission, breaker
from cjtasks.contracts.provider import ComparisonRequest, JudgeSettings
from cjtasks.errors import CircuitOpen, HuleEduError, ProviderRefused, ProviderRejected
from tests.integration.clients.told_service import Answer

if TYPE_CHECKING:
    from tests.integration.clients.told_service import Service

ACCEPTED = Answer(202, json.dumps({"queue_id": "q-1", "status": "queued"}).encode())
DOWN = Answer(500, b"down")
PATIENCE = 20.0


def ask(client: LLMProviderServiceClient) -> Submission:
    judge = JudgeSettings("openai", "a-model", 0.0, "You judge.")
    return client.generate_comparison(ComparisonRequest("Which is better?", [], "answers", uuid4(), judge))


def client_of(service: Service, open_seconds: float = 60.0) -> LLMProviderServiceClient:
    return LLMProviderServiceClient(service.url, breaker(5, open_seconds), timeout=PATIENCE)


def error_of(client: LLMProviderServiceClient) -> HuleEduError:
    with pytest.raises(HuleEduError) as caught:
        ask(client)
    return caught.value


def fail(client: LLMProviderServiceClient, times: int) -> None:
    for _ in range(times):
        assert not isinstance(error_of(client), CircuitOpen)


def await_probe(client: LLMProviderServiceClient) -> None:
    until = time.monotonic() + PATIENCE
    while client.allowance(64) == 0:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert client.allowance(64) == 1


class Held:
    """Holds the first request until it is let go with a 202, and fails every other one at once."""

    def __init__(self) -> None:
        self.arrived, self.let_go = threading.Event(), threading.Event()
        self._first = threading.Lock()

    def __call__(self, _: Service) -> Answer:
        if not self._first.acquire(blocking=False):
            return DOWN
        self.arrived.set()
        assert self.let_go.wait(PATIENCE)
        return ACCEPTED


def test_the_breaker_opens_after_five_outages_in_a_row(service: Service) -> None:
    service.told = DOWN
    client = client_of(service)
    fail(client, 4)
    assert client.allowance(64) == 64
    fail(client, 1)
    assert client.allowance(64) == 0
    assert isinstance(error_of(client), CircuitOpen)
    assert len(service.paths) == 5


@pytest.mark.parametrize("word", [Answer(400), Answer(429), Answer(404), ACCEPTED])
def test_any_other_word_of_the_provider_ends_a_row_of_outages(service: Service, word: Answer) -> None:
    client = client_of(service)
    service.told = DOWN
    fail(client, 4)
    service.told = word
    with suppress(ProviderRefused, ProviderRejected):
        ask(client)
    service.told = DOWN
    fail(client, 4)
    assert client.allowance(64) == 64


@pytest.mark.parametrize("status", [202, 400, 401, 404, 408, 429])
def test_what_is_no_outage_never_opens_the_breaker(service: Service, status: int) -> None:
    service.told = Answer(status, b"{}")
    client = client_of(service)
    fail(client, 7)
    assert client.allowance(64) == 64


def test_an_open_breaker_lets_one_probe_through_and_closes_when_it_succeeds(service: Service) -> None:
    client = client_of(service, open_seconds=0.2)
    service.told = DOWN
    fail(client, 5)
    await_probe(client)
    fail(client, 1)
    assert client.allowance(64) == 0, "a failed probe opens it again"
    await_probe(client)
    service.told = ACCEPTED
    assert ask(client).queue_id == "q-1"
    assert client.allowance(64) == 64


def test_while_a_probe_is_out_nobody_else_is_sent_or_kept_waiting(service: Service) -> None:
    client = client_of(service, open_seconds=0.1)
    service.told = DOWN
    fail(client, 5)
    await_probe(client)
    service.told = held = Held()
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(ask, client)
        assert held.arrived.wait(PATIENCE)
        assert isinstance(error_of(client), CircuitOpen)
        held.let_go.set()
        assert probe.result(PATIENCE).queue_id == "q-1"
    assert len(service.paths) == 6


def test_an_acceptance_that_arrives_after_the_breaker_has_opened_is_kept(service: Service) -> None:
    client = client_of(service)
    service.told = held = Held()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, client)
        assert held.arrived.wait(PATIENCE)
        fail(client, 5)
        assert client.allowance(64) == 0
        held.let_go.set()
        assert slow.result(PATIENCE).queue_id == "q-1"


def test_eight_threads_have_their_requests_in_the_air_at_once(service: Service) -> None:
    all_here = threading.Barrier(8)

    def answer(_: Service) -> Answer:
        all_here.wait(PATIENCE)
        return ACCEPTED

    service.told = answer
    client = client_of(service)
    with ThreadPoolExecutor(8) as pool:
        submissions = list(pool.map(lambda _: ask(client), range(8)))
    assert [submission.queue_id for submission in submissions] == ["q-1"] * 8
