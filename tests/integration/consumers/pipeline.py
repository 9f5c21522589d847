"""One test's two topics and tables, and consumers that run in threads between them."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import select

from cjtasks import runtime
from cjtasks.clients import kafka
from cjtasks.store.models import DeadLetterRow, InboxRow, KafkaPosition
from cjtasks.store.session import Database
from consumers.loop import Loop
from tests.integration import kafka_topics
from tests.integration.kafka_topics import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cjtasks.settings import Settings


class Pipeline:
    """The topics, the tables behind them, and what this test has written so far."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.servers = settings.KAFKA_BOOTSTRAP_SERVERS
        self.requests, self.callbacks = settings.REQUEST_TOPIC, settings.LLM_PROVIDER_CALLBACK_TOPIC
        self.database = Database(settings.DATABASE_URL)
        self.written: list[tuple[str, bytes]] = []

    def make_topics(self) -> None:
        for topic in (self.requests, self.callbacks):
            kafka_topics.make_topic(self.servers, topic)

    def write(self, topic: str, count: int, partition: int = -1) -> list[bytes]:
        """Write messages that are told apart; they are no envelopes, which a consumer does not care about."""
        values = [f"message-{uuid4().hex}".encode() for _ in range(count)]
        self.produce(topic, values, partition)
        return values

    def produce(self, topic: str, values: Sequence[bytes], partition: int = -1) -> None:
        kafka_topics.produce(self.servers, topic, values, partition)
        self.written += [(topic, value) for value in values]

    def loop(self, stop: threading.Event | None = None, **changes: str) -> Loop:
        """Build a consumer as a process of its own would; `changes` are settings."""
        settings = self.settings.model_copy(update=changes)
        return Loop(runtime.build(settings), kafka.consumer(settings), stop or threading.Event())

    @contextmanager
    def running(self, **changes: str) -> Iterator[threading.Event]:
        """Run a consumer until the block ends, or sooner when the event is set; it must stop without an error."""
        stop = threading.Event()
        loop = self.loop(stop, **changes)
        ended = threading.Event()

        def run() -> None:
            loop.run()
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(PATIENCE)
        assert ended.is_set()

    def rows(self) -> Sequence[InboxRow]:
        with self.database.transaction() as session:
            return session.scalars(select(InboxRow).order_by(InboxRow.id)).all()

    def dead_letters(self) -> Sequence[DeadLetterRow]:
        with self.database.transaction() as session:
            return session.scalars(select(DeadLetterRow).order_by(DeadLetterRow.id)).all()

    def landed(self) -> list[tuple[str, bytes]]:
        return [(row.topic, bytes(payload)) for row in self.rows() for payload in row.payloads]

    def assert_each_landed_once(self) -> None:
        """Wait until as much has landed as was written; check that each is there once, from one place of the log."""
        eventually(lambda: len(self.landed()) >= len(self.written))
        assert Counter(self.landed()) == Counter(self.written)
        places = Counter((r.topic, *place) for r in self.rows() for place in zip(r.partitions, r.offsets, strict=True))
        assert max(places.values(), default=1) == 1

    def positions(self) -> dict[tuple[str, int], KafkaPosition]:
        with self.database.transaction() as session:
            return {(row.topic, row.partition): row for row in session.scalars(select(KafkaPosition))}
