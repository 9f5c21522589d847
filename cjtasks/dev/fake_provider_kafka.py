"""Callbacks to a real Kafka: no key and no headers, as the LLM Provider sends them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import Producer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import KafkaError, Message

log = logging.getLogger(__name__)


class KafkaSink:
    """Takes callbacks as `sink(topic, payload)`; the owner calls `poll` regularly and `close` once.

    `options` are more librdkafka settings. `undelivered` counts what Kafka did not take; the log says why.
    """

    def __init__(self, bootstrap_servers: str, options: Mapping[str, str | int] | None = None) -> None:
        settings = {"bootstrap.servers": bootstrap_servers, "acks": "all", "linger.ms": 5, **(options or {})}
        self._producer = Producer(settings)
        self.undelivered = 0

    def __call__(self, topic: str, payload: bytes) -> None:
        try:
            self._producer.produce(topic, value=payload, on_delivery=self._delivered)
        except BufferError:  # The local queue is full: let some out, then this one must fit.
            self._producer.poll(1.0)
            self._producer.produce(topic, value=payload, on_delivery=self._delivered)

    def poll(self) -> None:
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.flush(10)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.undelivered += 1
            log.error("callback not delivered to %s: %s", message.topic(), error)
