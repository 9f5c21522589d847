"""Writing to and reading from a real broker, and a way to it that can be closed."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager, suppress
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE = 60.0
SIXTEEN_MEBIBYTES = 16 * 1024 * 1024


def eventually(happens: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def make_topic(servers: str, topic: str, partitions: int = 3) -> None:
    client = AdminClient({"bootstrap.servers": servers})
    wanted = NewTopic(topic, partitions, config={"max.message.bytes": str(SIXTEEN_MEBIBYTES)})
    client.create_topics([wanted])[topic].result(timeout=20)


def drop_topic(servers: str, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": servers})
    client.delete_topics([topic])[topic].result(timeout=20)


def produce(servers: str, topic: str, values: Sequence[bytes | None], partition: int = -1) -> None:
    """Write the values, and return when the broker has them all; -1 spreads them over the partitions."""
    producer = _producer(servers)
    outcomes: list[KafkaError | None] = []
    for number, value in enumerate(values):
        place = number % 3 if partition < 0 else partition
        producer.produce(topic, value, partition=place, on_delivery=lambda error, _: outcomes.append(error))
    producer.flush(PATIENCE)
    assert outcomes == [None] * len(values)


@cache
def _producer(servers: str) -> Producer:
    """Keep one for all tests, because a new one first asks the broker for an identity; it keeps their order."""
    options = {"linger.ms": 5, "message.max.bytes": SIXTEEN_MEBIBYTES, "enable.idempotence": True, "log_level": 0}
    # Into a topic that was made a moment ago, two requests in the air can lose the first.
    options["max.in.flight.requests.per.connection"] = 1
    return Producer({"bootstrap.servers": servers, **options})


def read_all(servers: str, topic: str, partitions: int = 3) -> list[Message]:
    """Return what the topic holds now; messages of one partition are in their order."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid4().hex, "enable.auto.commit": False})
    places = [TopicPartition(topic, partition, 0) for partition in range(partitions)]
    marks = [consumer.get_watermark_offsets(place, timeout=20) for place in places]
    found: list[Message] = []
    until = time.monotonic() + PATIENCE
    consumer.assign(places)
    while len(found) < sum(high - low for low, high in marks):
        assert time.monotonic() < until
        found += [message for message in consumer.consume(500, 0.2) if message.error() is None]
    consumer.close()
    return found


@contextmanager
def forwarding(port: int, servers: str) -> Iterator[None]:
    """Lead clients of the port on to the broker until the block ends."""
    listening = socket.create_server(("127.0.0.1", port))
    host, _, there = servers.partition(":")
    Thread(target=_accept, args=(listening, (host, int(there))), daemon=True).start()
    yield
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def _accept(listening: socket.socket, address: tuple[str, int]) -> None:
    with suppress(OSError):
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(address)
            for source, target in ((near, far), (far, near)):
                Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        end.close()
