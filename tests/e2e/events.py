"""What cjtasks published, read by a plain consumer from the first offset of every outgoing topic to the last."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jsonschema
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from cjtasks.settings import Settings

SCHEMAS = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "fixtures" / "schemas"
PATIENCE = 30.0

CONTRACTS = {
    "completed": "CJAssessmentCompletedV1",
    "failed": "CJAssessmentFailedV1",
    "result": "AssessmentResultV1",
    "consumption": "ResourceConsumptionV1",
}
"""Each kind of event of the platform with the name of its contract; a partial result is our own kind."""

ENVELOPE_FIELDS = {"event_id", "event_type", "event_timestamp", "source_service", "correlation_id", "data"}
COMMON_FIELDS = {"event_name", "entity_id", "entity_type", "timestamp"}
DATA_FIELDS = {
    "completed": {"status", "system_metadata", "cj_assessment_job_id", "processing_summary"},
    "failed": {"status", "system_metadata", "cj_assessment_job_id"},
    "result": {"batch_id", "cj_assessment_job_id", "model_used", "essay_results", "assessment_metadata"},
    "consumption": {"user_id", "resource_type", "quantity", "service_name", "processing_id"},
    "partial": {"batch_id", "cj_assessment_job_id", "is_final", "comparisons", "essay_results"},
}


@dataclass(frozen=True)
class Event:
    """One message of an outgoing topic, as it lay in Kafka."""

    kind: str
    key: str
    value: bytes
    headers: tuple[Any, ...]

    @property
    def envelope(self) -> dict[str, Any]:
        envelope: dict[str, Any] = json.loads(self.value)
        return envelope

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.envelope["data"]
        return data

    @property
    def id(self) -> str:
        return str(self.envelope["event_id"])


def read_events(settings: Settings) -> list[Event]:
    """Return all that the outgoing topics hold at this moment."""
    kind_of = {
        settings.COMPLETED_TOPIC: "completed",
        settings.FAILED_TOPIC: "failed",
        settings.RESULT_TOPIC: "result",
        settings.CONSUMPTION_TOPIC: "consumption",
        settings.PARTIAL_RESULT_TOPIC: "partial",
    }
    options = {"bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS, "group.id": f"e2e-{uuid4()}"}
    consumer = Consumer({**options, "enable.auto.commit": False})
    try:
        return [_event(message, kind_of[message.topic() or ""]) for message in _read_all(consumer, kind_of)]
    finally:
        consumer.close()


def _read_all(consumer: Consumer, topics: Iterable[str]) -> list[Message]:
    found = consumer.list_topics(timeout=PATIENCE).topics
    places = [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics for number in found[topic].partitions]
    ends = [consumer.get_watermark_offsets(place, timeout=PATIENCE) for place in places]
    consumer.assign(places)
    return _read(consumer, sum(high - low for low, high in ends))


def _read(consumer: Consumer, count: int) -> list[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + PATIENCE
    while len(messages) < count:
        assert time.monotonic() < deadline, f"only {len(messages)} of {count} events could be read"
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            messages.append(message)
    return messages


def _event(message: Message, kind: str) -> Event:
    key = message.key() or b""
    text = key.decode() if isinstance(key, bytes) else key
    return Event(kind, text, message.value() or b"", tuple(message.headers() or ()))


def closing(events: Iterable[Event]) -> list[Event]:
    """Leave out the partial results, which a batch may publish or not."""
    return [event for event in events if event.kind != "partial"]


def sent_again(events: Iterable[Event]) -> list[str]:
    """Return the ids of events that lie in Kafka more than once."""
    return [event_id for event_id, times in Counter(event.id for event in events).items() if times > 1]


def check_shape(event: Event) -> None:
    """Hold an event against the platform's own schema; where that is not at hand, against its field names."""
    if SCHEMAS.is_dir() and event.kind in CONTRACTS:
        _validator(CONTRACTS[event.kind]).validate(event.envelope)
    assert event.envelope.keys() >= ENVELOPE_FIELDS
    assert event.data.keys() >= COMMON_FIELDS | DATA_FIELDS[event.kind]


@cache
def _validator(contract: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{contract}.envelope.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
