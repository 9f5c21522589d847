from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg2
import pytest
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from cjtasks.dev.kafka import broker_available, kafka, mock_kafka
from cjtasks.dev.postgres import create_database, drop_database, postgres
from cjtasks.dev.stack import DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS, REDIS_URL, Stack, stack
from cjtasks.dev.valkey import valkey
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = (DATABASE_URL, REDIS_URL, KAFKA_BOOTSTRAP_SERVERS)


@pytest.fixture
def folder(services_folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=services_folder, ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def table_of_processes() -> list[tuple[int, int, str]]:
    """Return id, parent and command line of all that live; the dead that nobody has asked about do not."""
    ps = ["ps", "-axww", "-o", "pid=,ppid=,stat=,args="]
    listing = subprocess.run(ps, capture_output=True, text=True, check=True).stdout  # noqa: S603  Constant.
    rows = (line.split(None, 3) for line in listing.splitlines())
    return [(int(pid), int(parent), command) for pid, parent, state, command in rows if state[0] != "Z"]


def descendants(ancestor: int) -> set[int]:
    """Return all that came from the process, also what has moved to a group of its own as Postgres's do."""
    table = [(pid, parent) for pid, parent, command in table_of_processes() if not command.startswith("ps -axww")]
    family, size = {ancestor}, 0
    while len(family) > size:
        size = len(family)
        family |= {pid for pid, parent in table if parent in family}
    return family - {ancestor}


def living(pids: set[int]) -> list[str]:
    return [command for pid, _, command in table_of_processes() if pid in pids]


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 30
    while living(pids):
        assert time.monotonic() < deadline, living(pids)
        time.sleep(0.05)


def postmaster(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])


def query(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall()


def make_topic(servers: str, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": servers})
    client.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(timeout=20)


def produce(servers: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 17_000_000})
    outcomes: list[KafkaError | None] = []
    producer.produce(topic, value, on_delivery=lambda error, _: outcomes.append(error))
    producer.flush(20)
    assert outcomes == [None]


def consume(servers: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid4().hex, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        message = consumer.poll(30)
        assert message is not None
        return message.value()
    finally:
        consumer.close()


def test_postgres_answers_with_its_settings_and_leaves_no_process(folder: Path) -> None:
    others = descendants(os.getpid())
    with postgres(folder, durable=False) as url:
        pids = descendants(os.getpid()) - others
        assert query(url, "SELECT current_database(), lower('ÅÄÖ')") == [("cjtasks", "åäö")]
        settings = "SELECT current_setting('max_connections'), current_setting('fsync')"
        assert query(url, settings) == [("200", "off")]
        assert len(living(pids)) > 1
    assert living(pids) == []


def test_a_durable_postgres_flushes_to_disk_and_keeps_its_rows_between_starts(folder: Path) -> None:
    with postgres(folder, durable=True) as url:
        assert query(url, "CREATE TABLE kept AS SELECT 7 AS number", "SHOW fsync") == [("on",)]
    with postgres(folder, durable=True) as url:
        assert query(url, "SELECT number FROM kept") == [(7,)]


def test_postgres_starts_again_with_its_rows_after_a_kill(folder: Path) -> None:
    with postgres(folder, durable=True) as url:
        query(url, "CREATE TABLE kept AS SELECT 7 AS number", "SELECT 1")
        os.kill(postmaster(folder), signal.SIGKILL)
    assert (folder / "data" / "postmaster.pid").exists()
    with postgres(folder, durable=True) as url:
        assert query(url, "SELECT number FROM kept") == [(7,)]


def test_postgres_waits_for_one_that_still_ends_on_the_same_folder(folder: Path) -> None:
    with postgres(folder, durable=False):
        ending = Timer(1, os.kill, (postmaster(folder), signal.SIGINT))
        ending.start()
        with postgres(folder, durable=False) as url:
            assert query(url, "SELECT 1") == [(1,)]
        ending.join()


def test_a_postgres_that_cannot_start_says_what_its_log_says(folder: Path) -> None:
    others = descendants(os.getpid())
    (folder / "data").mkdir()
    with pytest.raises(Misconfigured, match=r"postgres failed: .*postgres.log says:\n.+"):
        postgres(folder, durable=False).__enter__()
    assert descendants(os.getpid()) == others


def test_a_database_is_made_as_a_copy_and_dropped_whoever_is_connected(postgres_url: str) -> None:
    template, copy = f"t_{uuid4().hex}", f"c_{uuid4().hex}"
    url = create_database(postgres_url, template)
    query(url, "CREATE TABLE kept AS SELECT 7 AS number", "SELECT 1")
    copied = create_database(postgres_url, copy, template=template)
    with closing(psycopg2.connect(copied)) as idle:
        assert query(copied, "SELECT number FROM kept") == [(7,)]
        drop_database(postgres_url, copy)
        assert not idle.closed
    drop_database(postgres_url, template)
    drop_database(postgres_url, template)
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        query(copied, "SELECT 1")


def test_each_test_gets_a_migrated_database(database_url: str) -> None:
    assert query(database_url, "SELECT count(*) FROM alembic_version") == [(1,)]


def test_valkey_answers_keeps_what_it_was_told_and_leaves_no_process(folder: Path) -> None:
    others = descendants(os.getpid())
    with valkey(folder) as url, closing(redis.Redis.from_url(url)) as client:
        pids = descendants(os.getpid()) - others
        assert pids == {client.info("server")["process_id"]}
        client.set("kept", "yes")
        wanted = {"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}
        assert client.config_get(*wanted) == wanted
    assert living(pids) == []
    with valkey(folder) as url, closing(redis.Redis.from_url(url)) as client:
        assert client.get("kept") == b"yes"


def test_the_redis_of_a_test_is_empty(redis_url: str) -> None:
    with closing(redis.Redis.from_url(redis_url)) as client:
        assert client.dbsize() == 0


@pytest.mark.usefixtures("real_broker")
def test_a_message_outlives_the_broker_which_leaves_no_process(folder: Path) -> None:
    others = descendants(os.getpid())
    with kafka(folder) as servers:
        pids = descendants(os.getpid()) - others
        make_topic(servers, "answers")
        produce(servers, "answers", b"a wins")
        assert consume(servers, "answers") == b"a wins"
        assert len(living(pids)) == 1
    assert living(pids) == []
    with kafka(folder) as servers:
        assert consume(servers, "answers") == b"a wins"


def test_the_broker_makes_no_topic_in_passing(kafka_servers: str, topic_prefix: str) -> None:
    producer = Producer({"bootstrap.servers": kafka_servers, "message.timeout.ms": 1500})
    failures: list[KafkaError | None] = []
    producer.produce(f"{topic_prefix}unmade", b"x", on_delivery=lambda error, _: failures.append(error))
    producer.flush(20)
    assert failures[0] is not None
    assert (
        f"{topic_prefix}unmade" not in AdminClient({"bootstrap.servers": kafka_servers}).list_topics(timeout=20).topics
    )


def test_the_broker_takes_a_message_of_nearly_sixteen_mebibytes(kafka_servers: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}large"
    make_topic(kafka_servers, topic)
    value = bytes(16 * 1024 * 1024 - 4096)
    produce(kafka_servers, topic, value)
    assert consume(kafka_servers, topic) == value


def test_the_mock_passes_messages_on_and_ends_with_its_block() -> None:
    with mock_kafka() as servers:
        produce(servers, "answers", b"a wins")
        assert consume(servers, "answers") == b"a wins"
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=1)


@pytest.mark.usefixtures("nothing_named", "real_broker")
def test_the_stack_starts_all_three_and_leaves_no_process(folder: Path) -> None:
    others = descendants(os.getpid())
    with stack(folder, durable=False, need_real_kafka=True) as services:
        pids = descendants(os.getpid()) - others
        assert query(services.database_url, "SELECT 1") == [(1,)]
        with closing(redis.Redis.from_url(services.redis_url)) as client:
            assert client.ping()
        make_topic(services.kafka_bootstrap_servers, "answers")
        assert services.kafka_is_real
        assert len(living(pids)) > 3
    assert living(pids) == []


def test_the_stack_uses_the_services_that_the_environment_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = descendants(os.getpid())
    named = dict(zip(NAMES, ("postgresql://db/cj", "redis://cache/1", "broker:9092"), strict=True))
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    with stack(folder, durable=True, need_real_kafka=True) as services:
        assert services == Stack("postgresql://db/cj", "redis://cache/1", "broker:9092", True, folder)
        assert services.environment() == named
        assert descendants(os.getpid()) == others


@pytest.mark.usefixtures("nothing_named", "no_java")
def test_without_java_the_stack_falls_back_to_the_mock_unless_a_real_broker_is_needed(folder: Path) -> None:
    assert broker_available() == "Kafka needs Java 17 or newer, and there is no java on the PATH"
    with pytest.raises(Misconfigured, match="no java on the PATH"):
        stack(folder, durable=False, need_real_kafka=True).__enter__()
    with stack(folder, durable=False) as services:
        assert not services.kafka_is_real
        assert AdminClient({"bootstrap.servers": services.kafka_bootstrap_servers}).list_topics(timeout=10).brokers


@pytest.mark.usefixtures("nothing_named")
def test_a_service_that_cannot_start_stops_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KAFKA_BOOTSTRAP_SERVERS, "broker:9092")
    others = descendants(os.getpid())
    (folder / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(Misconfigured, match="postgres failed"):
        stack(folder, durable=False).__enter__()
    assert (folder / "valkey" / "valkey.log").exists()
    assert descendants(os.getpid()) == others


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only Linux tells a child that we were killed")
def test_servers_whose_owner_is_killed_end_by_themselves(folder: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from cjtasks.dev.valkey import valkey\n"
        "from cjtasks.dev.postgres import postgres; folder = Path(sys.argv[1])\n"
        "with valkey(folder / 'v'), postgres(folder / 'p', durable=False): \n"
        "    print('up', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:  # noqa: S603  Ours.
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        pids = descendants(owner.pid)
        owner.kill()
    assert len(pids) > 2
    wait_until_gone(pids)
