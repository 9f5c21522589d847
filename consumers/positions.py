"""How far each assigned partition is in the inbox; the truth stands in Postgres, not in Kafka's group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition
from sqlalchemy import literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from cjtasks.clients import kafka
from cjtasks.errors import UnsafePosition
from cjtasks.steps.monitor import BEHIND
from cjtasks.store import arrays
from cjtasks.store.models import KafkaPosition
from cjtasks.store.prepared import Prepared, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from confluent_kafka import Consumer
    from sqlalchemy.orm import Session

    from cjtasks.store.session import Database

Place = tuple[str, int]

LOOK_SECONDS = 1.0

_MOVE = Prepared(
    "move_positions",
    "text[], int[], bigint[], bigint[]",
    """
    UPDATE kafka_positions AS position SET next_offset = new.reached
    FROM unnest($1, $2, $3, $4) AS new(topic, partition, expected, reached)
    WHERE position.topic = new.topic AND position.partition = new.partition AND position.next_offset = new.expected
    RETURNING position.topic, position.partition
    """,
)


class PositionLostError(Exception):
    """Somebody else moved a partition that we thought was ours."""


class Positions:
    """The offsets that this consumer expects in Postgres for the partitions assigned to it."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._expected: dict[Place, int] = {}
        self._targets: dict[Place, tuple[int, datetime]] = {}
        self._steady: dict[Place, datetime] = {}

    @property
    def expected(self) -> Mapping[Place, int]:
        return self._expected

    def assign(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        """Read where each partition goes on, and set its offset; a new one starts at its low watermark."""
        for partition in partitions:
            place = (partition.topic, partition.partition)
            low, high = kafka.watermarks(consumer, partition)
            stored = self._stored_or_new(place, low)
            if not low <= stored <= high:
                raise _unsafe(place, stored, low, high)
            partition.offset = self._expected[place] = stored
            self._targets[place] = (high, self._clock())

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._expected.pop((partition.topic, partition.partition), None)
            self._targets.pop((partition.topic, partition.partition), None)
            self._steady.pop((partition.topic, partition.partition), None)

    def _stored_or_new(self, place: Place, low: int) -> int:
        with self._database.transaction() as session:
            session.execute(
                insert(KafkaPosition)
                .values(topic=place[0], partition=place[1], next_offset=low)
                .on_conflict_do_nothing()
            )
            return session.get_one(KafkaPosition, place).next_offset

    def move(self, session: Session, reached: Mapping[Place, int]) -> None:
        """Move all positions at once; raise PositionLostError when one is not where we left it.

        Only somebody who lost his partitions and does not know it yet can meet us here, and even a deadlock with him
        costs no more than another look at who has what.
        """
        moved = execute(
            session,
            _MOVE,
            arrays.texts(topic for topic, _ in reached),
            arrays.plain(partition for _, partition in reached),
            arrays.plain(self._expected.get(place, -1) for place in reached),
            arrays.plain(reached.values()),
        )
        lost = reached.keys() - {(topic, partition) for topic, partition in moved}
        if lost:
            raise PositionLostError(", ".join(f"{topic}[{partition}]" for topic, partition in sorted(lost)))

    def moved(self, reached: Mapping[Place, int]) -> None:
        """Expect the new positions, after the transaction that moved them was committed."""
        self._expected.update(reached)

    def read_again(self, consumer: Consumer) -> None:
        """Expect what Postgres has now for the partitions that are still assigned; a forgotten one starts anew."""
        with self._database.transaction() as session:
            rows = session.scalars(
                select(KafkaPosition).where(
                    tuple_(KafkaPosition.topic, KafkaPosition.partition).in_(list(self._expected))
                )
            )
            stored = {(row.topic, row.partition): row.next_offset for row in rows}
        self.assign(consumer, [TopicPartition(*place) for place in self._expected if place not in stored])
        self._expected.update(stored)

    def note_caught_up(self, consumer: Consumer) -> None:
        """Record since when all that Kafka held is in the inbox, and take new marks to measure against.

        The marks come from the broker itself: those that the client remembers stay the same while the
        broker is out of reach. After an absence nothing is recorded before we kept up for as long as counts as
        behind: what piled up in Kafka lies young in the inbox now, and no deadline may act before it is worked.
        """
        reached = self._reached()
        self._take_marks(consumer, reached)
        with self._database.transaction() as session:
            for place, taken_at in sorted(reached.items()):
                session.execute(
                    update(KafkaPosition)
                    .where(
                        KafkaPosition.topic == place[0],
                        KafkaPosition.partition == place[1],
                        KafkaPosition.next_offset >= self._expected[place],
                        or_(
                            KafkaPosition.caught_up_at.is_(None),
                            KafkaPosition.caught_up_at >= taken_at - BEHIND,
                            literal(self._steady[place] <= taken_at - BEHIND),
                        ),
                    )
                    .values(caught_up_at=taken_at)
                )

    def _reached(self) -> dict[Place, datetime]:
        """Return when the mark that each partition has reached was taken, and remember since when it keeps up."""
        reached, now = {}, self._clock()
        for place, expected in self._expected.items():
            high, taken_at = self._targets[place]
            if expected < high or now - taken_at > BEHIND:
                self._steady.pop(place, None)
            if expected >= high:
                reached[place] = taken_at
                self._steady.setdefault(place, now)
        return reached

    def _take_marks(self, consumer: Consumer, places: Iterable[Place]) -> None:
        for place in places:
            now = self._clock()
            try:
                _, high = kafka.watermarks(consumer, TopicPartition(*place), LOOK_SECONDS)
            except KafkaException:
                # Out of reach: the old marks stay, and their time tells how long. Asking on would hold up the poll.
                return
            self._targets[place] = (high, now)


def _unsafe(place: Place, stored: int, low: int, high: int) -> UnsafePosition:
    topic, partition = place
    return UnsafePosition.of(
        f"{topic}[{partition}]: the inbox goes on at offset {stored}, but Kafka holds {low} to {high}. The topic was "
        f"made anew, or its retention passed while we were away, so messages may be lost. To go on from what Kafka "
        f"holds: cjtasks topics forget-position {topic} {partition}",
        operation="assign",
    )
