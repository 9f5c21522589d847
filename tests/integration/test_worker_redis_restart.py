"""A real worker process while its Redis is killed and comes back on the same port."""

from __future__ import annotations

import signal
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
import redis
from sqlalchemy import func, select

from cjtasks.celery import ANSWERS, app
from cjtasks.dev.processes import Supervisor, folder_sink, read_procfile
from cjtasks.dev.servers import LOOPBACK, Launch, free_port, start, stop
from cjtasks.dev.valkey import SETTINGS, _program
from cjtasks.settings import psycopg2_url
from cjtasks.store import inbox
from cjtasks.store.inbox import Kind, Message
from cjtasks.store.models import InboxRow
from cjtasks.store.session import Database
from cjtasks.testing import SettableClock
from tests.integration.kafka_topics import PATIENCE, eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"
WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


class MortalValkey:
    """A Valkey that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://{LOOPBACK}:{self._port}/0"
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = {**SETTINGS, "dir": str(self._folder), "port": str(self._port)}
        options = [text for name, value in settings.items() for text in (f"--{name}", value)]
        with (self._folder / "valkey.log").open("ab") as log:
            self.child = start(Launch("valkey", (str(_program()), *options)), log)
        eventually(self._answers)

    def _answers(self) -> bool:
        with closing(redis.Redis.from_url(self.url)) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def kill(self) -> None:
        assert self.child is not None
        stop(self.child, signal.SIGKILL, PATIENCE)


@pytest.fixture
def mortal_valkey(services_folder: Path) -> Iterator[MortalValkey]:
    valkey = MortalValkey(services_folder / "mortal")
    valkey.start()
    yield valkey
    valkey.kill()


@pytest.fixture
def worker(database_url: str, mortal_valkey: MortalValkey, tmp_path: Path) -> Iterator[Supervisor]:
    (process,) = [process for process in read_procfile(PROCFILE) if process.name == "worker"]
    environment = {"CJ_DATABASE_URL": database_url, "CJ_REDIS_URL": mortal_valkey.url}
    supervisor = Supervisor([process], environment, folder_sink(tmp_path))
    supervisor.start()
    yield supervisor
    supervisor.stop()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(psycopg2_url(database_url))
    yield database
    database.close()


def put_row(database: Database) -> None:
    """Store one message of which a worker can only say that it is unreadable."""
    now = SettableClock()()
    with database.transaction() as session:
        inbox.write(session, Kind.CALLBACK, [Message("a-topic", 0, 0, b"no envelope", now)])


def undone(database: Database) -> int:
    with database.transaction() as session:
        return session.scalar(select(func.count()).where(InboxRow.done_at.is_(None))) or 0


def ring(url: str) -> None:
    with app.connection(url) as connection:
        app.send_task("cjtasks.inbox", queue=ANSWERS, connection=connection, retry=False)


@contextmanager
def inbox_locked(database_url: str) -> Iterator[None]:
    """Make whoever works the inbox wait, with its message unacknowledged, until the end of the block."""
    with closing(psycopg2.connect(database_url)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")
        yield
        holder.rollback()


def somebody_waits(database_url: str) -> bool:
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(WAITS_FOR_A_LOCK)
        return bool(cursor.fetchone() != (0,))


def work_is_done(database: Database, url: str) -> bool:
    """Ring as the sweep would, and tell whether nothing is left to do."""
    if undone(database):
        ring(url)
        time.sleep(0.2)
    return not undone(database)


def test_a_worker_survives_kills_of_redis_while_a_message_is_unacknowledged(
    database_url: str, database: Database, mortal_valkey: MortalValkey, worker: Supervisor
) -> None:
    put_row(database)
    eventually(lambda: work_is_done(database, mortal_valkey.url))
    for _ in range(3):
        with inbox_locked(database_url):
            ring(mortal_valkey.url)
            eventually(lambda: somebody_waits(database_url))
            mortal_valkey.kill()
        mortal_valkey.start()
        put_row(database)
        eventually(lambda: work_is_done(database, mortal_valkey.url))
        assert worker.poll() is None, "the worker ended"
