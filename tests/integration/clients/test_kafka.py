"""Our producer against a real broker: what the broker said it has must be there."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

from cjtasks.clients import kafka
from cjtasks.settings import Settings
from tests.integration import kafka_topics

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

ROUNDS = 10
LARGE = random.Random(1).randbytes(8_000_000)


def test_what_is_sent_to_a_topic_as_it_is_made_is_all_there(kafka_servers: str, topic_prefix: str) -> None:
    """A broker that is about to lead a new partition refuses a small request, and may take the large one behind it."""
    settings = Settings.model_validate({"KAFKA_BOOTSTRAP_SERVERS": kafka_servers})
    producer, reader = kafka.producer(settings, "test"), kafka.consumer(settings)
    outcomes: list[KafkaError | None] = []

    def told(error: KafkaError | None, _: Message) -> None:
        outcomes.append(error)

    for number in range(ROUNDS):
        topic = f"{topic_prefix}{number}"
        kafka_topics.make_topic(kafka_servers, f"{topic}-other")
        kafka_topics.make_topic(kafka_servers, topic)
        for value in (b"small", LARGE):
            producer.produce(topic, value, partition=2, on_delivery=told)
        producer.flush(kafka_topics.PATIENCE)
        assert kafka.watermarks(reader, TopicPartition(topic, 2)) == (0, 2)
    reader.close()
    assert outcomes == [None] * 2 * ROUNDS
