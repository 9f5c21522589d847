"""What must hold when all batches have ended: nothing lost, nothing twice, every batch with its three events."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from pydantic_core import from_json
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from cjtasks.settings import Settings

PATIENCE = 60.0

# Each question counts what must not be there.
_QUESTIONS = {
    "batches that are not COMPLETED": "SELECT count(*) FROM cj_batch_states WHERE state <> 'COMPLETED'",
    "batches whose counters differ from their rows": """
        SELECT count(*) FROM cj_batch_states AS state JOIN (
            SELECT cj_batch_id, count(*) AS total, count(submitted_at) AS submitted,
                count(*) FILTER (WHERE status = 'completed' AND NOT late) AS completed,
                count(*) FILTER (WHERE status = 'failed' AND NOT late) AS failed
            FROM cj_comparison_pairs GROUP BY cj_batch_id
        ) AS rows ON rows.cj_batch_id = state.batch_id
        WHERE (state.total_comparisons, state.submitted_comparisons, state.completed_comparisons,
               state.failed_comparisons) IS DISTINCT FROM (rows.total, rows.submitted, rows.completed, rows.failed)
    """,
    "comparisons that are still open": """
        SELECT count(*) FROM cj_comparison_pairs WHERE status NOT IN ('completed', 'failed')
    """,
    "messages that the inbox holds twice": """
        SELECT count(*) - count(DISTINCT (topic, place, number))
        FROM inbox, unnest(partitions, offsets) AS message(place, number)
    """,
    "messages that the inbox does not hold": """
        SELECT (SELECT sum(next_offset) FROM kafka_positions) - (SELECT sum(cardinality(offsets)) FROM inbox)
    """,
    "inbox rows that are undone": "SELECT count(*) FROM inbox WHERE done_at IS NULL",
    "dead letters": "SELECT count(*) FROM dead_letters",
    "events that are unpublished": "SELECT count(*) FROM event_outbox WHERE published_at IS NULL",
    "batches without one of each closing event": """
        SELECT count(*) FROM cj_batch_states AS state WHERE
            (SELECT array_agg(kind ORDER BY kind) FROM event_outbox
             WHERE batch_id = state.batch_id AND kind <> 'partial')
            IS DISTINCT FROM ARRAY['completed', 'consumption', 'result']
    """,
}
_ASKED = text("SELECT count(*), coalesce(sum(attempt), 0), coalesce(max(attempt), 0) FROM cj_comparison_pairs")


def problems(session: Session, batches: int, provider: Mapping[str, int]) -> Iterator[str]:
    """Ask Postgres, and compare what the provider was asked with the rows."""
    found = session.scalar(text("SELECT count(*) FROM cj_batch_states"))
    if found != batches:
        yield f"{batches} batches were asked for and {found} opened"
    for what, question in _QUESTIONS.items():
        if wrong := session.scalar(text(question)):
            yield f"{wrong} {what}"
    rows, attempts, _ = session.execute(_ASKED).one()
    if provider["correlation_ids"] != rows or provider["accepted"] != attempts:
        yield f"the provider accepted {provider['accepted']} requests for {provider['correlation_ids']} comparisons"
        yield f"our rows say {attempts} for {rows}"
    if provider["asked_again"] > provider["errors"]:
        yield f"{provider['asked_again']} were asked again for {provider['errors']} errors"
    if provider["undelivered"]:
        yield f"Kafka did not take {provider['undelivered']} callbacks"


class Event(NamedTuple):
    topic: str
    key: str
    id: str


def event_problems(settings: Settings, batches: int) -> Iterator[str]:
    """Read what lies in Kafka: one event of each kind for each batch, and no event twice."""
    closing = (settings.COMPLETED_TOPIC, settings.RESULT_TOPIC, settings.CONSUMPTION_TOPIC)
    events = read(settings, [*closing, settings.FAILED_TOPIC, settings.PARTIAL_RESULT_TOPIC])
    for topic in closing:
        keys = {event.key for event in events if event.topic == topic}
        number = sum(event.topic == topic for event in events)
        if not len(keys) == number == batches:
            yield f"{topic} holds {number} events of {len(keys)} batches and should hold {batches}"
    if failed := sum(event.topic == settings.FAILED_TOPIC for event in events):
        yield f"{failed} batches are told to have failed"
    if twice := [one for one, times in Counter(event.id for event in events).items() if times > 1]:
        yield f"{len(twice)} events lie in Kafka more than once"


def read(settings: Settings, topics: Sequence[str]) -> list[Event]:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
            "group.id": f"bench-{uuid4()}",
            "enable.auto.commit": False,
        }
    )
    try:
        found = consumer.list_topics(timeout=PATIENCE).topics
        places = [TopicPartition(topic, n, OFFSET_BEGINNING) for topic in topics for n in found[topic].partitions]
        left = sum(high - low for low, high in (consumer.get_watermark_offsets(place) for place in places))
        consumer.assign(places)
        events: list[Event] = []
        deadline = time.monotonic() + PATIENCE
        while len(events) < left and time.monotonic() < deadline:
            events += [_event(m.topic(), m.key(), m.value()) for m in consumer.consume(500, 1.0) if m.error() is None]
        return events
    finally:
        consumer.close()


def _event(topic: str | None, key: bytes | str | None, value: bytes | None) -> Event:
    text_key = key.decode() if isinstance(key, bytes) else key or ""
    return Event(topic or "", text_key, from_json(value or b"{}")["event_id"])
