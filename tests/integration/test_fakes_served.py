"""The fake LLM Provider as a process of its own, and with a real Kafka behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from cjtasks.contracts.callback import read_callback
from cjtasks.dev import fake_content, fake_provider
from cjtasks.dev.fake_content import FakeContent
from cjtasks.dev.fake_provider import FakeProvider, KafkaSink
from cjtasks.dev.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0


def ask(url: str, topic: str, number: int) -> None:
    body = {
        "user_prompt": "compare",
        "callback_topic": topic,
        "correlation_id": str(UUID(int=number)),
        "llm_config_overrides": {"provider_override": "mock"},
    }
    requests.post(f"{url}/comparison", json=body, timeout=PATIENCE).raise_for_status()


def eventually(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_a_port_that_is_taken_is_told_to_whoever_starts_the_fake() -> None:
    with fake_content.running(FakeContent()) as url:
        port = urlsplit(url).port or 0
        with pytest.raises(OSError, match="in use"), fake_content.running(FakeContent(), port):
            pass


SERVED = """
import sys
from cjtasks.dev.fake_provider import FakeProvider, serve
serve(FakeProvider(lambda topic, payload: None), int(sys.argv[1]))
print("closed")
"""


def test_a_served_fake_ends_cleanly_on_sigterm() -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVED, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:  # noqa: S603  Our own code.
        eventually(lambda: healthy(port))
        os.kill(served.pid, signal.SIGTERM)
        said, _ = served.communicate(timeout=PATIENCE)
    assert (served.returncode, said) == (0, "closed\n")


def healthy(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


def test_callbacks_reach_kafka_without_key_or_headers(kafka_servers: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}answers"
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(PATIENCE)
    provider = FakeProvider(KafkaSink(kafka_servers))
    with fake_provider.running(provider) as url:
        for number in range(5):
            ask(url, topic, number)
        eventually(lambda: provider.stats()["callbacks"] == 5)
    received = read_all(kafka_servers, topic, 5)
    assert {(key, headers) for key, headers, _ in received} == {(None, None)}
    ids = {read_callback(payload).correlation_id for _, _, payload in received}
    assert ids == {UUID(int=number) for number in range(5)}
    assert provider.stats()["undelivered"] == 0


def test_a_callback_that_kafka_does_not_take_is_counted(kafka_servers: str, topic_prefix: str) -> None:
    provider = FakeProvider(KafkaSink(kafka_servers, {"message.timeout.ms": 1000}))
    with fake_provider.running(provider) as url:
        ask(url, f"{topic_prefix}nowhere", 1)
        eventually(lambda: provider.stats()["undelivered"] == 1)


def read_all(servers: str, topic: str, number: int) -> list[tuple[Any, Any, bytes]]:
    options = {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(options)
    consumer.subscribe([topic])
    received: list[tuple[Any, Any, bytes]] = []
    deadline = time.monotonic() + PATIENCE
    while len(received) < number:
        assert time.monotonic() < deadline, "waited in vain"
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            received.append((message.key(), message.headers(), message.value() or b""))
    consumer.close()
    return received
