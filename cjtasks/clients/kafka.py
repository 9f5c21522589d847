"""Kafka clients with the options that our guarantees rest on; CJ_KAFKA_OPTIONS adds security and the like."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition

    from cjtasks.settings import Settings

logger = logging.getLogger("librdkafka")
# A command that sets up no logging stays silent; its own error says what is wrong.
logger.addHandler(logging.NullHandler())

PARTITIONS = 3
LARGEST_MESSAGE = 16 * 1024 * 1024
ADMIN_SECONDS = 10.0


def _base(settings: Settings, process: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "client.id": f"cjtasks-{process}",
        # Through Python's logging its lines are JSON like ours; below warnings it tells every disconnect.
        "logger": logger,
        "log_level": 4,
        # A broker that comes back should be found soon, but one that is away not be called twenty times a second.
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2000,
        **settings.KAFKA_OPTIONS,
    }


def consumer(settings: Settings) -> Consumer:
    return Consumer(
        {
            **_base(settings, "consumer"),
            "group.id": settings.KAFKA_CONSUMER_GROUP,
            # Offsets in Kafka only show the lag; the position that counts stands in Postgres.
            "enable.auto.commit": True,
            "enable.auto.offset.store": False,
            "auto.commit.interval.ms": 1000,
            # Each assignment names its offsets. One that Kafka does not hold means lost messages: a person must know.
            "auto.offset.reset": "error",
            "partition.assignment.strategy": "cooperative-sticky",
            # A dead consumer's partitions move on after this.
            "session.timeout.ms": 10_000,
            "max.poll.interval.ms": 60_000,
            "allow.auto.create.topics": False,
            "isolation.level": "read_committed",
            # Bounds the memory that prefetched messages take.
            "queued.max.messages.kbytes": 16_384,
            "fetch.message.max.bytes": LARGEST_MESSAGE,
        }
    )


def producer(settings: Settings, process: str) -> Producer:
    return Producer(
        {
            **_base(settings, process),
            # No duplicate and no change of order from retries inside one producer.
            "enable.idempotence": True,
            # A broker that does not know this producer yet takes whichever request comes first. With a second one in
            # the air the first, refused because its partition had no leader for a moment, is taken for a duplicate
            # when it is sent again: acknowledged, and lost.
            "max.in.flight.requests.per.connection": 1,
            "linger.ms": 5,
            "compression.type": "lz4",
            "delivery.timeout.ms": 20_000,
            "message.max.bytes": LARGEST_MESSAGE,
        }
    )


def admin(settings: Settings) -> AdminClient:
    return AdminClient(_base(settings, "admin"))


def topics(settings: Settings) -> list[str]:
    """Return every topic that we read or write."""
    return [
        settings.REQUEST_TOPIC,
        settings.LLM_PROVIDER_CALLBACK_TOPIC,
        settings.COMPLETED_TOPIC,
        settings.FAILED_TOPIC,
        settings.RESULT_TOPIC,
        settings.CONSUMPTION_TOPIC,
        settings.PARTIAL_RESULT_TOPIC,
    ]


def ensure_topics(settings: Settings, replication: int = 1) -> list[str]:
    """Create the topics that are missing and return their names; those that exist stay as they are."""
    client = admin(settings)
    existing = client.list_topics(timeout=ADMIN_SECONDS).topics
    config = {"max.message.bytes": str(LARGEST_MESSAGE)}
    missing = [name for name in dict.fromkeys(topics(settings)) if name not in existing]
    if not missing:
        return []
    created = client.create_topics(
        [NewTopic(name, PARTITIONS, replication, config=config) for name in missing], operation_timeout=ADMIN_SECONDS
    )
    for name, future in created.items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            # Another start of ours was faster.
            missing.remove(name)
    return missing


def watermarks(client: Consumer, partition: TopicPartition, seconds: float = 10.0) -> tuple[int, int]:
    """Ask the broker for the lowest offset and the one after the highest.

    A partition that was made or moved a moment ago has no leader yet, so the question is asked again for
    `seconds`; after that KafkaException is raised.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            low, high = client.get_watermark_offsets(partition, timeout=seconds, cached=False)
        except KafkaException:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return low, high
