"""The topics on a real broker: made once, as large as the platform's messages need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource  # type: ignore[attr-defined]  # Its stubs forget to export it.
from confluent_kafka.cimpl import NewTopic

from cjtasks.clients import kafka
from cjtasks.settings import Settings

if TYPE_CHECKING:
    from typing import Any

SIXTEEN_MEBIBYTES = 16 * 1024 * 1024


@pytest.fixture
def settings(kafka_servers: str, topic_prefix: str) -> Settings:
    names = [name for name in Settings.model_fields if name.endswith("_TOPIC")]
    topics = {name: f"{topic_prefix}{name.lower()}" for name in names}
    return Settings.model_validate({"KAFKA_BOOTSTRAP_SERVERS": kafka_servers, **topics})


def described(settings: Settings) -> dict[str, Any]:
    """Return the topics of this test that are there, by name."""
    found = kafka.admin(settings).list_topics(timeout=20).topics
    return {name: topic for name, topic in found.items() if name in kafka.topics(settings)}


def ensured(settings: Settings) -> dict[str, Any]:
    """Make the topics, and return them once the broker tells of them all: it may need a moment."""
    kafka.ensure_topics(settings)
    until = time.monotonic() + 20
    while len(found := described(settings)) < len(kafka.topics(settings)):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def option(client: AdminClient, topic: str, name: str) -> str | None:
    """Return an option that was set on the topic itself; None where it only has the broker's default."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    entry = client.describe_configs([resource])[resource].result(timeout=20)[name]
    return entry.value if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value else None


def test_every_topic_of_the_settings_is_made(settings: Settings) -> None:
    wanted = {value for name, value in settings.model_dump().items() if name.endswith("_TOPIC")}
    assert set(kafka.ensure_topics(settings)) == wanted
    assert set(ensured(settings)) == wanted


def test_topics_have_three_partitions_and_take_sixteen_mebibytes(settings: Settings) -> None:
    client = kafka.admin(settings)
    for name, topic in ensured(settings).items():
        assert len(topic.partitions) == 3
        assert option(client, name, "max.message.bytes") == str(SIXTEEN_MEBIBYTES)


def test_ensuring_again_changes_nothing(settings: Settings) -> None:
    before = {name: len(topic.partitions) for name, topic in ensured(settings).items()}
    assert kafka.ensure_topics(settings) == []
    assert {name: len(topic.partitions) for name, topic in described(settings).items()} == before


def test_a_topic_that_somebody_made_stays_as_it_is(settings: Settings) -> None:
    theirs = settings.REQUEST_TOPIC
    client = kafka.admin(settings)
    client.create_topics([NewTopic(theirs, 5, config={"max.message.bytes": "1000"})])[theirs].result(timeout=20)
    assert theirs not in kafka.ensure_topics(settings)
    assert len(ensured(settings)[theirs].partitions) == 5
    assert option(client, theirs, "max.message.bytes") == "1000"


def test_two_names_for_one_topic_make_it_once(settings: Settings) -> None:
    one = settings.model_copy(update={"FAILED_TOPIC": settings.COMPLETED_TOPIC})
    assert kafka.ensure_topics(one).count(settings.COMPLETED_TOPIC) == 1


def test_more_copies_than_brokers_are_refused_and_nothing_is_made(settings: Settings) -> None:
    with pytest.raises(KafkaException):
        kafka.ensure_topics(settings, replication=3)
    assert described(settings) == {}
