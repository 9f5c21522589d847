"""The engine of one process, and the one place that commits."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InvalidatePoolError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

# A waiting lock or statement holds a worker and everyone behind it: give up soon, the inbox and the
# state rows remember what is due. An idle transaction would hold its locks for ever.
_SERVER_SIDE = "-c lock_timeout=2000 -c statement_timeout=10000 -c idle_in_transaction_session_timeout=15000 -c jit=off"

# Serialization failure, deadlock, lock or statement timeout, a server that is going or coming, and one that
# a failover has made read-only. By class: lost connections, and a server without memory, disk or connections.
_PASSING = frozenset({"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "25P03", "25006"})
_PASSING_CLASSES = ("08", "53")


LOOK_AFTER = 1.0
"""Seconds. A restarted Postgres leaves dead connections in the pool, so one that was idle for so long is looked at
before use. To look each time would double the round trips of a busy process; a connection that died just now fails
its transaction, which is tried again like any other that the database made fail."""


class Database:
    """One engine, made lazily in the process that uses it, because pooled sockets must not cross a fork."""

    def __init__(self, url: str, *, pool_size: int = 2) -> None:
        self.engine: Engine = create_engine(
            url,
            # An error's text goes into logs; the parameters hold essays.
            hide_parameters=True,
            # Lists of rows go out in a few large statements instead of one a row.
            executemany_mode="values_plus_batch",
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_recycle=1800,
            isolation_level="READ COMMITTED",
            connect_args={
                "connect_timeout": 3,
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
                "application_name": "cjtasks",
                "options": _SERVER_SIDE,
            },
        )
        event.listen(self.engine, "checkin", _note_its_return)
        event.listen(self.engine, "checkout", partial(_look_before_use, self.engine.dialect))

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session; commit when the block ends, roll back when it raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


def _note_its_return(_: object, record: ConnectionPoolEntry) -> None:
    record.info["returned_at"] = time.monotonic()


def _look_before_use(dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
    if time.monotonic() - record.info.get("returned_at", time.monotonic()) <= LOOK_AFTER:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error:
        # All that are as old died with it.
        raise InvalidatePoolError from None


def is_passing(error: BaseException) -> bool:
    """Tell whether the database, not the data, made a transaction fail: the same work may succeed later."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "pgcode", None)
    if code is None:
        # No server spoke: either the connection is lost, or the driver refused to send these data.
        refused = isinstance(error, ProgrammingError | DataError | IntegrityError | NotSupportedError)
        return error.connection_invalidated or not refused
    return error.connection_invalidated or code in _PASSING or code.startswith(_PASSING_CLASSES)
