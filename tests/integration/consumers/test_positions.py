"""Where the consumer goes on: only what Postgres says counts, and where that is unsafe a person must decide."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg2
import pytest
from confluent_kafka import KafkaException, TopicPartition
from sqlalchemy import delete, update

from cjtasks.clients import kafka
from cjtasks.errors import UnsafePosition
from cjtasks.store import inbox
from cjtasks.store.inbox import Kind, Message
from cjtasks.store.models import InboxRow, KafkaPosition
from cjtasks.testing import SettableClock
from consumers.positions import PositionLostError, Positions
from tests.integration.kafka_topics import drop_topic, eventually, make_topic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.integration.consumers.pipeline import Pipeline

DIFFERING = """
    SELECT topic, partition, next_offset FROM kafka_positions WHERE next_offset <> (
        SELECT count(*) FROM inbox, unnest(inbox.partitions) AS place
        WHERE inbox.topic = kafka_positions.topic AND place = kafka_positions.partition)"""


def move(pipeline: Pipeline, topic: str, partition: int, offset: int) -> None:
    """Put a position elsewhere, as another consumer or an accident would."""
    here = (KafkaPosition.topic == topic, KafkaPosition.partition == partition)
    with pipeline.database.transaction() as session:
        moved = session.execute(update(KafkaPosition).where(*here).values(next_offset=offset).returning(KafkaPosition))
        assert moved.first() is not None


def offsets(pipeline: Pipeline, topic: str) -> Mapping[int, int]:
    return {place[1]: row.next_offset for place, row in pipeline.positions().items() if place[0] == topic}


def settled(pipeline: Pipeline, partition: int = -1) -> None:
    """Bring 30 messages into the inbox and stop the consumer that did."""
    pipeline.write(pipeline.callbacks, 30, partition)
    with pipeline.running():
        pipeline.assert_each_landed_once()


def refusal_of(pipeline: Pipeline) -> UnsafePosition:
    with pytest.raises(UnsafePosition) as caught:
        pipeline.loop().run()
    return caught.value


def run_the_command_in(refusal: UnsafePosition, database_url: str) -> None:
    """Do what the refusal tells a person to do."""
    found = re.search(r"cjtasks topics forget-position .*", str(refusal))
    assert found is not None
    program, *words = shlex.split(found[0])
    environment = {**os.environ, "CJ_DATABASE_URL": database_url}
    subprocess.run([Path(sys.executable).parent / program, *words], env=environment, check=True, capture_output=True)  # noqa: S603 - Ours.


def test_positions_move_in_the_transaction_that_stores_the_messages(pipeline: Pipeline, database_url: str) -> None:
    done = threading.Event()
    differing: list[object] = []

    def watch() -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not done.wait(0.01):
                cursor.execute(DIFFERING)
                differing.extend(cursor.fetchall())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pipeline.running():
        for _ in range(15):
            pipeline.write(pipeline.callbacks, 60)
        pipeline.assert_each_landed_once()
    done.set()
    watcher.join()
    assert differing == []
    assert offsets(pipeline, pipeline.callbacks) == {0: 300, 1: 300, 2: 300}


def test_a_new_partition_starts_at_what_kafka_holds(pipeline: Pipeline) -> None:
    pipeline.write(pipeline.callbacks, 10, partition=0)
    forget_in_kafka(pipeline, pipeline.callbacks, 0, before=4)
    pipeline.written = pipeline.written[4:]
    with pipeline.running():
        pipeline.assert_each_landed_once()
    assert offsets(pipeline, pipeline.callbacks)[0] == 10


def forget_in_kafka(pipeline: Pipeline, topic: str, partition: int, before: int) -> None:
    """Let Kafka's retention pass over the first messages of a partition."""
    client = kafka.admin(pipeline.settings)
    for future in client.delete_records([TopicPartition(topic, partition, before)]).values():
        future.result(timeout=20)


def test_a_restart_in_another_group_goes_on_where_postgres_says(pipeline: Pipeline) -> None:
    settled(pipeline)
    pipeline.write(pipeline.callbacks, 30)
    with pipeline.running(KAFKA_CONSUMER_GROUP=uuid4().hex):
        pipeline.assert_each_landed_once()


def test_a_restart_after_the_group_was_deleted_goes_on_where_postgres_says(pipeline: Pipeline) -> None:
    settled(pipeline)
    group = pipeline.settings.KAFKA_CONSUMER_GROUP
    client = kafka.admin(pipeline.settings)
    client.delete_consumer_groups([group])[group].result(timeout=20)
    pipeline.write(pipeline.callbacks, 30)
    with pipeline.running():
        pipeline.assert_each_landed_once()


def test_what_another_consumer_took_meanwhile_is_neither_taken_again_nor_lost(pipeline: Pipeline) -> None:
    with pipeline.running():
        pipeline.write(pipeline.callbacks, 30)
        pipeline.assert_each_landed_once()
        taken = [f"taken-{number}".encode() for number in range(5)]
        take_as_another(pipeline, partition=0, first=10, values=taken)
        pipeline.produce(pipeline.callbacks, [*taken, b"ours-1", b"ours-2"], partition=0)
        pipeline.write(pipeline.callbacks, 20, partition=1)
        pipeline.assert_each_landed_once()
    assert offsets(pipeline, pipeline.callbacks) == {0: 17, 1: 30, 2: 10}


def take_as_another(pipeline: Pipeline, partition: int, first: int, values: list[bytes]) -> None:
    """Store messages and move their position as another consumer does, before ours has seen them."""
    now = SettableClock()()
    messages = [
        Message(pipeline.callbacks, partition, first + number, value, now) for number, value in enumerate(values)
    ]
    with pipeline.database.transaction() as session:
        inbox.write(session, Kind.CALLBACK, messages)
    move(pipeline, pipeline.callbacks, partition, first + len(values))


def test_a_position_above_what_kafka_holds_stops_the_consumer_until_a_person_forgets_it(
    pipeline: Pipeline, database_url: str
) -> None:
    settled(pipeline, partition=1)
    drop_topic(pipeline.servers, pipeline.callbacks)
    eventually(lambda: made_again(pipeline))
    pipeline.written.clear()
    with pipeline.database.transaction() as session:
        session.execute(delete(InboxRow))
    pipeline.write(pipeline.callbacks, 3)
    refusal = refusal_of(pipeline)
    assert f"{pipeline.callbacks}[1]" in str(refusal)
    assert "goes on at offset 30, but Kafka holds 0 to 1" in str(refusal)
    run_the_command_in(refusal, database_url)
    with pipeline.running():
        pipeline.assert_each_landed_once()


def made_again(pipeline: Pipeline) -> bool:
    """Make the topic anew, once the broker has let go of the old one."""
    try:
        make_topic(pipeline.servers, pipeline.callbacks)
    except KafkaException:
        return False
    return True


def test_a_position_below_what_kafka_holds_stops_the_consumer_until_a_person_forgets_it(
    pipeline: Pipeline, database_url: str
) -> None:
    settled(pipeline)
    pipeline.write(pipeline.callbacks, 9, partition=2)
    forget_in_kafka(pipeline, pipeline.callbacks, 2, before=15)
    refusal = refusal_of(pipeline)
    assert f"{pipeline.callbacks}[2]" in str(refusal)
    assert "goes on at offset 10, but Kafka holds 15 to 19" in str(refusal)
    run_the_command_in(refusal, database_url)
    del pipeline.written[-9:-4]
    with pipeline.running():
        pipeline.assert_each_landed_once()


def test_a_position_beyond_the_log_stops_a_consumer_that_runs(pipeline: Pipeline) -> None:
    settled(pipeline)
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            pipeline.loop(stop).run()
        except UnsafePosition as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    pipeline.write(pipeline.callbacks, 3)
    pipeline.assert_each_landed_once()
    move(pipeline, pipeline.callbacks, 0, 1000)
    pipeline.write(pipeline.callbacks, 3)
    eventually(lambda: not thread.is_alive())
    assert f"{pipeline.callbacks}[0]: the inbox goes on at offset 1000" in str(failures[0])


def test_a_position_that_is_forgotten_while_a_consumer_runs_starts_anew(pipeline: Pipeline) -> None:
    with pipeline.running():
        pipeline.write(pipeline.callbacks, 30)
        pipeline.assert_each_landed_once()
        with pipeline.database.transaction() as session:
            session.execute(delete(KafkaPosition))
            session.execute(delete(InboxRow))
        pipeline.write(pipeline.callbacks, 3)
        pipeline.assert_each_landed_once()


class Watched:
    """The positions of the callback topic in the hands of a test, with its clock."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.clock = pipeline, SettableClock()
        self.consumer = kafka.consumer(pipeline.settings)
        self.positions = Positions(pipeline.database, self.clock)
        self.positions.assign(self.consumer, [TopicPartition(pipeline.callbacks, 0)])

    def reach(self, offset: int) -> None:
        reached = {(self.pipeline.callbacks, 0): offset}
        with self.pipeline.database.transaction() as session:
            self.positions.move(session, reached)
        self.positions.moved(reached)

    def look_after(self, seconds: float) -> object:
        """Let time pass, look, and return how long ago the partition was caught up, by what is recorded."""
        self.clock.advance(timedelta(seconds=seconds))
        self.positions.note_caught_up(self.consumer)
        recorded = self.pipeline.positions()[self.pipeline.callbacks, 0].caught_up_at
        return recorded and (self.clock.now - recorded).total_seconds()


def test_caught_up_is_noted_when_all_that_kafka_held_is_in_the_inbox_and_kept_fresh(pipeline: Pipeline) -> None:
    pipeline.write(pipeline.callbacks, 5, partition=0)
    watched = Watched(pipeline)
    assert watched.look_after(5) is None
    watched.reach(4)
    assert watched.look_after(5) is None
    watched.reach(5)
    assert watched.look_after(5) == 15, "the mark was taken at the assignment"
    assert [watched.look_after(5) for _ in range(3)] == [5, 5, 5]


def test_caught_up_is_not_refreshed_while_a_partition_lags(pipeline: Pipeline) -> None:
    watched = Watched(pipeline)
    assert [watched.look_after(5) for _ in range(2)] == [5, 5]
    pipeline.write(pipeline.callbacks, 3, partition=0)
    assert [watched.look_after(5) for _ in range(3)] == [5, 10, 15]
    watched.reach(3)
    assert [watched.look_after(5) for _ in range(2)] == [15, 5]


def test_a_running_consumer_notes_that_it_caught_up(pipeline: Pipeline) -> None:
    pipeline.write(pipeline.callbacks, 30)
    with pipeline.running():
        eventually(lambda: len(pipeline.positions()) == 6)
        eventually(lambda: all(row.caught_up_at for row in pipeline.positions().values()))
        pipeline.assert_each_landed_once()


def test_a_position_that_somebody_moved_is_not_moved_again(pipeline: Pipeline) -> None:
    watched = Watched(pipeline)
    move(pipeline, pipeline.callbacks, 0, 3)
    with pytest.raises(PositionLostError, match=re.escape(f"{pipeline.callbacks}[0]")):
        watched.reach(2)
    assert offsets(pipeline, pipeline.callbacks) == {0: 3}
    watched.positions.read_again(watched.consumer)
    watched.reach(4)
    assert offsets(pipeline, pipeline.callbacks) == {0: 4}
