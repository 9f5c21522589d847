"""The consumer between real Kafka and real Postgres: each message once, whatever is killed, full or away."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg2
import redis
from confluent_kafka import Producer, TopicPartition

from cjtasks.celery import ANSWERS
from cjtasks.dev.servers import LOOPBACK, Launch, free_port, start, stop
from cjtasks.store.locks import NAMESPACE, SingleFlight
from cjtasks.store.models import InboxRow
from consumers.polled import LARGEST_MESSAGE, LARGEST_ROW, MOST_A_ROW
from tests.integration.kafka_topics import eventually, read_all
from tests.integration.kafka_topics import produce as produce_raw
from tests.integration.ringing import point_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.consumers.pipeline import Pipeline

# A commit that takes its time, so that a kill can find one under way.
SLOW_COMMIT = """
    CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION take_time()"""
KILL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'cjtasks' AND datname = current_database() AND state = 'active' AND query = 'COMMIT'"""
SWEEP = f"SELECT pg_advisory_lock({NAMESPACE}, {SingleFlight.SWEEP.value})"


def bells_waiting(redis_url: str) -> int:
    with closing(redis.Redis.from_url(redis_url)) as client:
        found = client.llen(f"cjtasks:{ANSWERS}")
        assert isinstance(found, int)
        return found


def test_both_topics_land_in_the_inbox_each_message_once(pipeline: Pipeline) -> None:
    pipeline.write(pipeline.requests, 40)
    with pipeline.running():
        pipeline.write(pipeline.callbacks, 1200)
        pipeline.write(pipeline.requests, 40)
        pipeline.assert_each_landed_once()
    kinds = {(row.topic, row.kind) for row in pipeline.rows()}
    assert kinds == {(pipeline.requests, "request"), (pipeline.callbacks, "callback")}
    for row in pipeline.rows():
        assert len(row.payloads) <= MOST_A_ROW
        assert row.attempts == 0
        assert row.next_attempt_at == row.received_at
    with pipeline.running():
        pipeline.write(pipeline.callbacks, 1)
        pipeline.assert_each_landed_once()


def test_the_messages_of_a_partition_keep_their_order(pipeline: Pipeline) -> None:
    values = pipeline.write(pipeline.callbacks, 1100, partition=1)
    with pipeline.running():
        pipeline.assert_each_landed_once()
    assert [value for _, value in pipeline.landed()] == values


def test_what_a_rebalance_between_two_polls_brings_again_is_kept_once(pipeline: Pipeline) -> None:
    pipeline.write(pipeline.callbacks, 30)
    found = read_all(pipeline.servers, pipeline.callbacks)
    loop = pipeline.loop()
    ours = [TopicPartition(pipeline.callbacks, partition) for partition in (0, 1)]
    loop._positions.assign(loop._consumer, ours)
    kept = loop._in_order([*found[:20], *found])
    assert sorted((m.partition(), m.offset()) for m in kept) == [(p, o) for p in (0, 1) for o in range(10)]
    loop._positions.moved({(pipeline.callbacks, 0): 7})
    loop._positions.forget(ours[1:])
    assert [(m.partition(), m.offset()) for m in loop._in_order(found)] == [(0, 7), (0, 8), (0, 9)]


def test_large_messages_share_no_row_that_would_be_too_large(pipeline: Pipeline) -> None:
    pipeline.produce(pipeline.callbacks, [bytes([number]) * 3_000_000 for number in range(1, 6)])
    with pipeline.running():
        pipeline.assert_each_landed_once()
    assert max(sum(len(payload) for payload in row.payloads) for row in pipeline.rows()) <= LARGEST_ROW


def test_what_is_empty_or_too_large_is_set_aside_with_its_reason(pipeline: Pipeline) -> None:
    too_large = b"x" * 100_000 + b"y" * LARGEST_MESSAGE
    produce_raw(pipeline.servers, pipeline.callbacks, [b"", None, too_large], partition=2)
    pipeline.produce(pipeline.callbacks, [b"z" * LARGEST_MESSAGE], partition=2)
    with pipeline.running():
        pipeline.assert_each_landed_once()
    letters = pipeline.dead_letters()
    assert [(row.partition, row.offset) for row in letters] == [(2, 0), (2, 1), (2, 2)]
    assert [row.reason for row in letters] == ["EMPTY_MESSAGE", "EMPTY_MESSAGE", "TOO_LARGE"]
    assert [bytes(row.payload) for row in letters] == [b"", b"", b"x" * 64 * 1024]
    assert letters[2].detail == f"{len(too_large)} bytes"


def test_a_bell_is_rung_when_messages_are_in_the_inbox_without_waiting_for_a_sweep(
    pipeline: Pipeline, redis_url: str, database_url: str
) -> None:
    with autocommitting(database_url) as cursor, pipeline.running():
        cursor.execute(SWEEP)
        pipeline.write(pipeline.callbacks, 1)
        eventually(lambda: bells_waiting(redis_url))
        assert pipeline.rows()


def test_while_redis_is_away_the_consumer_works_the_inbox_and_rings_again_later(
    pipeline: Pipeline, redis_url: str
) -> None:
    point_at(f"redis://{LOOPBACK}:{free_port()}/0")
    with pipeline.running():
        put_a_row_on_which_every_step_fails(pipeline)
        pipeline.write(pipeline.callbacks, 30)
        eventually(lambda: len(pipeline.dead_letters()) == 30)
        eventually(lambda: all(row.done_at for row in pipeline.rows()[1:]))
        point_at(redis_url)
        pipeline.write(pipeline.callbacks, 1)
        eventually(lambda: bells_waiting(redis_url))
    assert pipeline.rows()[0].done_at is None


def put_a_row_on_which_every_step_fails(pipeline: Pipeline) -> None:
    """Store a row that no consumer writes: its offsets are more than its payloads."""
    before = datetime.now(UTC) - timedelta(hours=1)
    row = InboxRow(kind="callback", topic="t", partitions=[0], offsets=[0, 1], payloads=[b""], attempts=1)
    row.received_at = row.next_attempt_at = before
    with pipeline.database.transaction() as session:
        session.add(row)


def test_killed_database_sessions_lose_and_double_nothing(pipeline: Pipeline, database_url: str) -> None:
    calm = threading.Event()
    kills: list[object] = []

    def kill() -> None:
        with autocommitting(database_url) as cursor:
            while not calm.wait(0.01):
                cursor.execute(KILL)
                kills.extend(found := cursor.fetchall())
                # Between two kills some messages shall get through.
                calm.wait(0.3 if found else 0)

    with autocommitting(database_url) as cursor:
        cursor.execute(SLOW_COMMIT)
    killer = threading.Thread(target=kill)
    killer.start()
    with pipeline.running():
        while len(kills) < 3:
            pipeline.write(pipeline.callbacks, 30)
            time.sleep(0.05)
        calm.set()
        killer.join()
        pipeline.assert_each_landed_once()


@contextmanager
def autocommitting(database_url: str) -> Iterator[psycopg2.extensions.cursor]:
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        yield cursor


def test_two_consumers_share_the_partitions_and_one_takes_over_from_the_other(pipeline: Pipeline) -> None:
    with pipeline.running() as first_stops:
        pipeline.write(pipeline.callbacks, 90)
        pipeline.assert_each_landed_once()
        with pipeline.running():
            for _ in range(10):
                pipeline.write(pipeline.callbacks, 30)
                pipeline.write(pipeline.requests, 3)
                time.sleep(0.1)
            pipeline.assert_each_landed_once()
            first_stops.set()
            for _ in range(5):
                pipeline.write(pipeline.callbacks, 30)
                time.sleep(0.1)
            pipeline.assert_each_landed_once()


def test_a_process_that_is_told_to_stop_finishes_what_it_polled(pipeline: Pipeline, tmp_path: Path) -> None:
    environment = {f"CJ_{name}": str(getattr(pipeline.settings, name)) for name in pipeline.settings.model_fields_set}
    with (tmp_path / "consumer.log").open("wb") as log:
        process = start(Launch("consumer", (sys.executable, "-m", "consumers"), environment), log)
    try:
        pipeline.write(pipeline.callbacks, 60)
        eventually(pipeline.landed)
        pipeline.write(pipeline.callbacks, 1500)
        process.send_signal(signal.SIGTERM)
        pipeline.write(pipeline.callbacks, 60)
        assert process.wait(30) == 0
    finally:
        stop(process, signal.SIGKILL, 10)
    with pipeline.running():
        pipeline.assert_each_landed_once()


def test_markers_of_transactions_leave_gaps_that_are_read_twice_and_passed(pipeline: Pipeline) -> None:
    producer = Producer({"bootstrap.servers": pipeline.servers, "transactional.id": pipeline.callbacks})
    producer.init_transactions(20)
    values = [b"first", b"second", b"third"]
    with pipeline.running():
        for value in values:
            producer.begin_transaction()
            producer.produce(pipeline.callbacks, value, partition=1)
            producer.commit_transaction(20)
        pipeline.written += [(pipeline.callbacks, value) for value in values]
        pipeline.assert_each_landed_once()
