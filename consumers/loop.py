"""The loop: poll, store messages and positions in one transaction, store the offsets, ring."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from sqlalchemy.exc import DBAPIError

from cjtasks import bells, tasks
from cjtasks.domain.states import Bell, Work
from cjtasks.errors import HuleEduError
from cjtasks.steps import sweep
from cjtasks.store import dead_letters, inbox
from cjtasks.store.inbox import Message
from cjtasks.store.session import is_passing
from consumers.polled import SHORTEST_PAUSE, pause_after, rows, unusable
from consumers.positions import PositionLostError, Positions
from consumers.routes import kinds

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from confluent_kafka import Consumer
    from confluent_kafka import Message as KafkaMessage
    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from consumers.positions import Place

MOST_A_POLL = 2000
KEPT_OF_A_TOO_LARGE = 64 * 1024

IDLE = 0.2
SWEEP_EVERY = 0.5
CAUGHT_UP_EVERY = 5.0
ASSIGN_PATIENCE = 30.0
"""How long an assignment waits for the database: well within the time after which the group counts us as dead."""

SILENCE = 5.0
"""How long nothing is rung after Redis failed; meanwhile the inbox is worked here."""

log = structlog.get_logger()


class Loop:
    """One consumer of both topics; stops between two polls, after what was polled is stored."""

    def __init__(self, runtime: Runtime, consumer: Consumer, stop: threading.Event) -> None:
        self._runtime = runtime
        self._consumer = consumer
        self._stop = stop
        self._kinds = kinds(runtime.settings)
        self._positions = Positions(runtime.database, runtime.clock)
        self._refused: Exception | None = None
        self._astray = False
        self._gaps: dict[Place, tuple[int, int]] = {}
        self._silent_until = 0.0
        self._next_sweep = 0.0
        self._next_look = 0.0
        self._pause = SHORTEST_PAUSE

    def run(self) -> None:
        """Consume until told to stop; raise what only a person can mend."""
        self._consumer.subscribe(
            list(self._kinds), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )
        try:
            while not self._stop.is_set():
                self._turn()
                if self._refused is not None:
                    raise self._refused
        finally:
            self._consumer.close()

    def _turn(self) -> None:
        try:
            if self._astray and not self._find_place():
                return
            messages = self._poll()
            if messages:
                self._store(messages)
                self._ring([Bell(Work.INBOX)])
            self._sweep()
            self._look()
        except PositionLostError as error:
            log.warning("a partition moved on without us", partition=str(error))
            self._astray = True
        except DBAPIError as error:
            if not is_passing(error):
                raise
            # The commit may or may not have happened: Postgres will say where to go on.
            log.warning("database away", error=type(error).__name__)
            self._astray = True
            self._drift()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._assign(consumer, partitions)
        except (HuleEduError, KafkaException, DBAPIError) as error:
            # The loop raises it, because nothing that a callback raises is sure to get through.
            self._refused = error
            return
        consumer.incremental_assign(partitions)
        log.info("partitions assigned", partitions=[f"{p.topic}[{p.partition}]@{p.offset}" for p in partitions])

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        until = time.monotonic() + ASSIGN_PATIENCE
        while True:
            try:
                return self._positions.assign(consumer, partitions)
            except DBAPIError as error:
                if not is_passing(error) or time.monotonic() > until or self._stop.is_set():
                    raise
                log.warning("database away", error=type(error).__name__)
                self._stop.wait(1.0)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._positions.forget(partitions)
        consumer.incremental_unassign(partitions)
        log.info("partitions revoked", partitions=[f"{p.topic}[{p.partition}]" for p in partitions])

    def _poll(self) -> list[KafkaMessage]:
        """Wait for a first message, let more gather for a moment, and take all that is there."""
        first = self._consumer.consume(1, IDLE)
        if not first:
            return []
        time.sleep(self._pause)
        polled = [m for m in first + self._consumer.consume(MOST_A_POLL - 1, 0) if self._is_message(m)]
        self._pause = pause_after(len(polled))
        return self._in_order(polled)

    def _is_message(self, message: KafkaMessage) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise KafkaException(error)
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - The library spells its own codes so.
            # Kafka does not hold what comes next; this raises unless it was only so for a moment.
            self._positions.assign(self._consumer, [TopicPartition(*_place(message))])
            self._astray = True
        log.warning("kafka", error=error.str())
        return False

    def _in_order(self, polled: Sequence[KafkaMessage]) -> list[KafkaMessage]:
        """Leave out what is not ours any more or was read before, and what follows a gap that was not read twice."""
        following = dict(self._positions.expected)
        kept = []
        for message in polled:
            place, offset = _place(message), message.offset() or 0
            if place not in following or offset < following[place]:
                continue
            if offset > following[place] and self._is_new_gap(place, following[place], offset):
                del following[place]
                continue
            following[place] = offset + 1
            kept.append(message)
        return kept

    def _is_new_gap(self, place: Place, expected: int, found: int) -> bool:
        """Read once more where offsets are missing: only a gap that is there again is Kafka's own, such as a marker."""
        if self._gaps.get(place) == (expected, found):
            return False
        self._gaps[place] = (expected, found)
        self._astray = True
        log.warning("offsets are missing", partition=f"{place[0]}[{place[1]}]", expected=expected, found=found)
        return True

    def _store(self, messages: Sequence[KafkaMessage]) -> None:
        now = self._runtime.clock()
        received = [
            Message(m.topic() or "", m.partition() or 0, m.offset() or 0, m.value() or b"", now) for m in messages
        ]
        reached = {(m.topic, m.partition): m.offset + 1 for m in received}
        with self._runtime.database.transaction() as session:
            self._write(session, received)
            self._positions.move(session, reached)
        self._positions.moved(reached)
        # They only show the lag to others, and a partition that was just lost takes none.
        with suppress(KafkaException):
            self._consumer.store_offsets(offsets=[TopicPartition(*place, offset) for place, offset in reached.items()])

    def _write(self, session: Session, received: Sequence[Message]) -> None:
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in received:
            reason = unusable(message)
            if reason is None:
                by_topic[message.topic].append(message)
            else:
                _set_aside(session, message, reason)
        for topic, messages in by_topic.items():
            for row in rows(messages):
                inbox.write(session, self._kinds[topic], row)

    def _ring(self, wanted: list[Bell], *, where_short: bool = False) -> None:
        if time.monotonic() < self._silent_until:
            return
        rung = bells.ring_where_short(wanted) if where_short else bells.ring(wanted)
        if not rung:
            self._silent_until = time.monotonic() + SILENCE

    def _sweep(self) -> None:
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_EVERY
        wanted = sweep.sweep(self._runtime)
        if wanted:
            self._ring(wanted, where_short=True)
        if time.monotonic() < self._silent_until:
            self._work_here()

    def _work_here(self) -> None:
        """Work the inbox while Redis is away; what is rung meanwhile is rung again by a later sweep."""
        until = time.monotonic() + SWEEP_EVERY
        while time.monotonic() < until and self._undone():
            try:
                tasks.work_inbox_once(self._runtime)
            except Exception as error:
                if is_passing(error):
                    raise
                # As in a worker: the row remembers the attempt, and must not stop the consumer.
                log.exception("step failed")
                return

    def _undone(self) -> int:
        with self._runtime.database.transaction() as session:
            return inbox.undone(session, self._runtime.clock())

    def _look(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + CAUGHT_UP_EVERY
        self._positions.note_caught_up(self._consumer)

    def _find_place(self) -> bool:
        """Go back to where Postgres says that the inbox ends; nothing is stored before this succeeded."""
        self._positions.read_again(self._consumer)
        try:
            for place, offset in self._positions.expected.items():
                self._consumer.seek(TopicPartition(*place, offset))
        except KafkaException as error:
            # An assignment that is only under way cannot seek yet.
            log.warning("kafka", error=str(error))
            self._drift()
            return False
        self._astray = False
        return True

    def _drift(self) -> None:
        """Stay in the group while nothing can be stored; what is read here is read again afterwards."""
        self._stop.wait(1.0)
        for message in self._consumer.consume(1, 0):
            self._is_message(message)


def _place(message: KafkaMessage) -> Place:
    return message.topic() or "", message.partition() or 0


def _set_aside(session: Session, message: Message, reason: str) -> None:
    size = len(message.payload)
    kept = Message(
        message.topic, message.partition, message.offset, message.payload[:KEPT_OF_A_TOO_LARGE], message.received_at
    )
    dead_letters.set_aside(session, kept, reason, f"{size} bytes")
