"""Publishes the outbox: reads what is unpublished, waits for each delivery report, marks what arrived.

One relay is active, held by a lock of its database session; a second one stands by. After a crash between
delivery and mark an event is sent again with the same event id.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaException
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from cjtasks.clients import kafka
from cjtasks.ops import logging
from cjtasks.runtime import utc_now
from cjtasks.settings import settings_or_exit
from cjtasks.store.locks import NAMESPACE, SingleFlight
from cjtasks.store.models import OutboxEvent
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Producer
    from sqlalchemy import Connection

AT_ONCE = 500
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
STANDBY_PAUSE = 1.0

log = structlog.get_logger()


class Relay:
    """Reads from one database and publishes with one producer until told to stop."""

    def __init__(self, database: Database, producer: Producer, stop: threading.Event) -> None:
        self._database = database
        self._producer = producer
        self._stop = stop

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as lock:
                    # Back in the pool its session would keep the lock, from our own next session too.
                    lock.detach()
                    self._stand_by(lock)
                    self._lead(lock)
            except DBAPIError as error:
                log.warning("database away", error=type(error).__name__)
                self._stop.wait(STANDBY_PAUSE)

    def _stand_by(self, lock: Connection) -> None:
        while not self._stop.is_set() and not _is_leader(lock):
            self._stop.wait(STANDBY_PAUSE)

    def _lead(self, lock: Connection) -> None:
        """Publish round after round; a lost lock session raises and ends the lead."""
        pause = SHORTEST_PAUSE
        while not self._stop.is_set():
            published = self.publish_once()
            pause = SHORTEST_PAUSE if published else min(2 * pause, LONGEST_PAUSE)
            if not published:
                self._stop.wait(pause)
            lock.execute(select(1))

    def publish_once(self) -> int:
        """Publish one round of events and return how many arrived."""
        with self._database.transaction() as session:
            rows = session.scalars(
                select(OutboxEvent).where(OutboxEvent.published_at.is_(None)).order_by(OutboxEvent.id).limit(AT_ONCE)
            ).all()
        delivered = self._produce(rows)
        if delivered:
            with self._database.transaction() as session:
                session.execute(update(OutboxEvent).where(OutboxEvent.id.in_(delivered)).values(published_at=utc_now()))
        return len(delivered)

    def _produce(self, rows: Sequence[OutboxEvent]) -> list[int]:
        delivered: list[int] = []
        for row in rows:

            def report(error: object, _message: object, row_id: int = row.id) -> None:
                if error is None:
                    delivered.append(row_id)
                else:
                    log.warning("event not delivered", outbox=row_id, error=str(error))

            if not self._send(row, report):
                break
        # Every report is waited for: an event still on its way must not be sent once more by the next round.
        while self._producer.flush(1.0) and not self._stop.is_set():
            pass
        return delivered

    def _send(self, row: OutboxEvent, report: Callable[[object, object], None]) -> bool:
        """Hand one event to the producer; False when it has no room, so that no later event overtakes this one."""
        try:
            self._producer.produce(row.topic, value=row.payload, key=row.key, on_delivery=report)
        except BufferError:
            return False
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            # It is too large or its topic is impossible, and must not hold up the others.
            log.warning("event cannot be sent", outbox=row.id, error=str(error))
        self._producer.poll(0)
        return True


def _is_leader(lock: Connection) -> bool:
    return bool(lock.scalar(select(func.pg_try_advisory_lock(NAMESPACE, SingleFlight.RELAY.value))))


def main() -> None:
    settings = settings_or_exit()
    logging.configure(settings.LOG_LEVEL, "relay")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(settings.DATABASE_URL)
    try:
        Relay(database, kafka.producer(settings, "relay"), stop).run()
    except KafkaException as error:
        log.critical("kafka refuses us for good", error=str(error))
        raise SystemExit(1) from None
    finally:
        database.close()


if __name__ == "__main__":
    main()
