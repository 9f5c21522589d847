"""The relay between real Postgres and real Kafka: each event once and in order, whatever goes away."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from sqlalchemy import func, select, update

from cjtasks.clients import kafka
from cjtasks.dev.servers import LOOPBACK, Launch, free_port, start, stop
from cjtasks.relay import Relay
from cjtasks.settings import Settings
from cjtasks.store.models import OutboxEvent
from cjtasks.store.session import Database
from tests.integration.kafka_topics import PATIENCE, eventually, forwarding, make_topic, read_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from confluent_kafka import Message

# A mark that takes its time, so that a kill can find one under way.
SLOW_MARK = """
    CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON event_outbox FOR EACH STATEMENT EXECUTE FUNCTION take_time()"""
SESSIONS = """
    FROM pg_stat_activity AS session WHERE application_name = 'cjtasks' AND datname = current_database() AND """
LEADS = "EXISTS (SELECT 1 FROM pg_locks AS lock WHERE lock.pid = session.pid AND locktype = 'advisory' AND granted)"
MARKS = "state = 'active' AND query LIKE 'UPDATE event_outbox%'"


class Outbox:
    """One test's outbox and the topic that it leads to."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.settings, self.topic = settings, topic
        self.database = Database(settings.DATABASE_URL)

    def put(self, *names: str, key: str = "batch", size: int = 0) -> None:
        with self.database.transaction() as session:
            session.add_all([self._event(name, key, size) for name in names])

    def _event(self, name: str, key: str, size: int) -> OutboxEvent:
        event_id = uuid4()
        payload = json.dumps({"event_id": str(event_id), "name": name, "padding": "x" * size}).encode()
        return OutboxEvent(
            subject=name,
            kind="completed",
            version=1,
            event_id=event_id,
            event_type="a-type",
            topic=self.topic,
            key=key,
            payload=payload,
        )

    def unpublished(self) -> int:
        with self.database.transaction() as session:
            return session.scalar(select(func.count()).where(OutboxEvent.published_at.is_(None))) or 0

    def await_published(self) -> None:
        eventually(lambda: not self.unpublished())

    def messages(self) -> list[Message]:
        return read_all(self.settings.KAFKA_BOOTSTRAP_SERVERS, self.topic)

    def names(self) -> list[str]:
        return [payload_of(message)["name"] for message in self.messages()]


def payload_of(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.value() or b"")
    return found


@pytest.fixture
def outbox(database_url: str, kafka_servers: str, topic_prefix: str) -> Iterator[Outbox]:
    topic = f"{topic_prefix}events"
    make_topic(kafka_servers, topic)
    settings = Settings.model_validate({"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": kafka_servers})
    outbox = Outbox(settings, topic)
    yield outbox
    outbox.database.close()


@contextmanager
def relaying(settings: Settings) -> Iterator[threading.Event]:
    """Run a relay as a process of its own would, with its own sessions; setting the event stops it early."""
    database, stopping = Database(settings.DATABASE_URL), threading.Event()
    relay = Relay(database, kafka.producer(settings, "relay"), stopping)

    def run() -> None:
        relay.run()
        database.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield stopping
    finally:
        stopping.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def execute(outbox: Outbox, statement: str) -> int:
    """Run one statement in a session of its own; return how many rows it found."""
    url = outbox.settings.DATABASE_URL.replace("+psycopg2", "")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        return max(cursor.rowcount, 0)


def numbered(first: int, count: int) -> Sequence[str]:
    return [f"event-{number:04}" for number in range(first, first + count)]


def test_events_of_one_key_arrive_in_order_each_once_and_are_marked(outbox: Outbox) -> None:
    names = numbered(0, 700)
    outbox.put(*names)
    with relaying(outbox.settings):
        outbox.await_published()
    assert outbox.names() == names


def test_an_event_is_sent_as_it_was_written_with_its_key_and_no_headers(outbox: Outbox) -> None:
    outbox.put("one", key="batch-1")
    outbox.put("two", key="batch-åäö")
    with relaying(outbox.settings):
        outbox.await_published()
    with outbox.database.transaction() as session:
        written = {row.key.encode(): row.payload for row in session.scalars(select(OutboxEvent))}
    found = outbox.messages()
    assert {message.key(): message.value() for message in found} == written
    assert [message.headers() for message in found] == [None, None]


def test_what_is_written_while_the_relay_runs_arrives_too(outbox: Outbox) -> None:
    with relaying(outbox.settings):
        for first in range(0, 50, 10):
            outbox.put(*numbered(first, 10))
            outbox.await_published()
    assert outbox.names() == numbered(0, 50)


def test_a_round_tells_how_many_arrived(outbox: Outbox) -> None:
    relay = Relay(outbox.database, kafka.producer(outbox.settings, "relay"), threading.Event())
    assert relay.publish_once() == 0
    outbox.put("one", "two")
    assert (relay.publish_once(), relay.publish_once()) == (2, 0)


def test_while_kafka_is_away_events_wait_and_are_published_later(outbox: Outbox) -> None:
    port = free_port()
    away = outbox.settings.model_copy(update={"KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{port}"})
    outbox.put(*numbered(0, 5))
    with relaying(away):
        time.sleep(1.0)
        assert outbox.unpublished() == 5
        with forwarding(port, outbox.settings.KAFKA_BOOTSTRAP_SERVERS):
            outbox.await_published()
    assert outbox.names() == numbered(0, 5)


def test_a_crash_between_delivery_and_mark_sends_the_same_bytes_again(outbox: Outbox) -> None:
    outbox.put("one")
    with relaying(outbox.settings):
        outbox.await_published()
        with outbox.database.transaction() as session:
            session.execute(update(OutboxEvent).values(published_at=None))
        outbox.await_published()
    first, second = outbox.messages()
    assert first.value() == second.value()
    assert first.key() == second.key()
    assert UUID(payload_of(first)["event_id"])


def test_one_relay_leads_and_the_other_takes_over_when_it_stops(outbox: Outbox) -> None:
    with relaying(outbox.settings) as first_stops:
        outbox.put(*numbered(0, 5))
        outbox.await_published()
        with relaying(outbox.settings):
            outbox.put(*numbered(5, 50))
            outbox.await_published()
            first_stops.set()
            outbox.put(*numbered(55, 5))
            outbox.await_published()
    assert outbox.names() == numbered(0, 60), "two that led at once would have sent some twice"


@pytest.mark.parametrize("which", [LEADS, MARKS], ids=["leads", "marks"])
def test_a_relay_whose_database_session_ends_goes_on(outbox: Outbox, which: str) -> None:
    execute(outbox, SLOW_MARK)
    with relaying(outbox.settings):
        for first in range(0, 30, 10):
            outbox.put(*numbered(first, 10))
            eventually(lambda: execute(outbox, f"SELECT pg_terminate_backend(pid) {SESSIONS} {which}"))
            outbox.await_published()
    assert set(outbox.names()) == set(numbered(0, 30))


def test_an_event_that_was_not_delivered_is_not_marked_and_goes_out_later(outbox: Outbox, topic_prefix: str) -> None:
    impatient = {"topic.metadata.propagation.max.ms": 500}
    settings = outbox.settings.model_copy(update={"KAFKA_OPTIONS": impatient})
    relay = Relay(outbox.database, kafka.producer(settings, "relay"), threading.Event())
    outbox.topic = f"{topic_prefix}later"
    outbox.put("one")
    assert (relay.publish_once(), outbox.unpublished()) == (0, 1)
    make_topic(outbox.settings.KAFKA_BOOTSTRAP_SERVERS, outbox.topic)
    eventually(relay.publish_once)
    assert (outbox.names(), outbox.unpublished()) == (["one"], 0)


def test_an_event_that_kafka_never_takes_does_not_hold_up_the_others(outbox: Outbox) -> None:
    outbox.put("too large", size=17 * 1024 * 1024)
    outbox.put("fits", size=15 * 1024 * 1024)
    outbox.put("small")
    with relaying(outbox.settings):
        eventually(lambda: outbox.unpublished() == 1)
    assert outbox.names() == ["fits", "small"]


@pytest.mark.parametrize("kafka_is_there", [True, False])
def test_the_process_stops_cleanly_on_sigterm(outbox: Outbox, tmp_path: Path, *, kafka_is_there: bool) -> None:
    servers = outbox.settings.KAFKA_BOOTSTRAP_SERVERS if kafka_is_there else f"{LOOPBACK}:{free_port()}"
    environment = {
        "CJ_DATABASE_URL": outbox.settings.DATABASE_URL,
        "CJ_KAFKA_BOOTSTRAP_SERVERS": servers,
    }
    outbox.put(*numbered(0, 5))
    with (tmp_path / "relay.log").open("wb") as log:
        process = start(Launch("relay", (sys.executable, "-m", "cjtasks.relay"), environment), log)
        if kafka_is_there:
            outbox.await_published()
        else:
            eventually(lambda: execute(outbox, f"SELECT pid {SESSIONS} {LEADS}"))
        assert stop(process, signal.SIGTERM, 30.0) == 0
    assert outbox.unpublished() == (0 if kafka_is_there else 5)
