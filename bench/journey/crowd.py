"""The batches that are asked for: requests on Kafka, evenly over a few seconds, with their texts stored before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from random import Random
from typing import TYPE_CHECKING

import requests
from confluent_kafka import Producer

from cjtasks.dev.demo_essays import demo_assignment, demo_essays
from cjtasks.dev.requests import BatchRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cjtasks.settings import Settings

SEED = 11


@dataclass(frozen=True)
class Crowd:
    """So many batches of so many essays."""

    batches: int
    essays: int


def requests_for(settings: Settings, crowds: Sequence[Crowd]) -> list[BatchRequest]:
    """Store the texts and return the requests in a mixed order."""
    with requests.Session() as session:
        prompt = _store(session, settings, demo_assignment())
        stored = [_store(session, settings, text) for text in demo_essays().values()]
    wanted = [BatchRequest(_essays(stored, one.essays), prompt) for one in crowds for _ in range(one.batches)]
    Random(SEED).shuffle(wanted)
    return wanted


def _essays(stored: Sequence[str], count: int) -> dict[str, str]:
    return {f"essay-{number}": text for number, text in enumerate(islice(cycle(stored), count))}


def _store(session: requests.Session, settings: Settings, text: str) -> str:
    response = session.post(settings.CONTENT_SERVICE_URL, data=text.encode(), timeout=10)
    response.raise_for_status()
    return str(response.json()["storage_id"])


def publish(settings: Settings, wanted: Sequence[BatchRequest], seconds: float) -> None:
    """Send the requests evenly over so many seconds."""
    producer = Producer({"bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS, "enable.idempotence": True})
    began = time.monotonic()
    for number, request in enumerate(wanted):
        time.sleep(max(0.0, began + number * seconds / len(wanted) - time.monotonic()))
        producer.produce(settings.REQUEST_TOPIC, request.payload(datetime.now(UTC)), key=request.batch_id)
        producer.poll(0)
    if producer.flush(30):
        raise RuntimeError("Kafka did not take the requests")
