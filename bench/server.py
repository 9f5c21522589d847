"""A Postgres of the bench's own, with fsync and the settings that operators are advised to make."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.config import Config
from sqlalchemy import create_engine, text

from alembic import command
from cjtasks.dev.postgres import postgres
from cjtasks.settings import psycopg2_url

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[1]
# What operators are advised to set, and the commit times that the latency of answers is read from.
SERVER = {
    "track_commit_timestamp": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
}


@contextmanager
def migrated(folder: Path) -> Iterator[str]:
    """Run Postgres on empty tables and yield the database's URL."""
    tune(folder)
    with postgres(folder / "postgres", durable=True) as url:
        migrate(url)
        yield url


def migrate(url: str) -> None:
    config = Config(str(PROJECT / "alembic.ini"))
    # The ini's syntax gives the percent sign a meaning.
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")


def tune(folder: Path) -> None:
    """Write what a server only takes at its start into its data, where the stack will find it."""
    with postgres(folder / "postgres", durable=True) as url:
        engine = create_engine(psycopg2_url(url), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name, value in SERVER.items():
                connection.execute(text(f"ALTER SYSTEM SET {name} = '{value}'"))
        engine.dispose()
