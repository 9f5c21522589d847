"""Run migrations one at a time, and never wait long for a lock that the running service holds.

The database is `sqlalchemy.url` of the configuration if it is set there, else CJ_DATABASE_URL.
"""

from __future__ import annotations

from sqlalchemy import create_engine, text

from alembic import context
from cjtasks.settings import load_settings, psycopg2_url
from cjtasks.store.models import Base

# Two deployments may migrate at once; the second waits here and then finds nothing left to do.
ADVISORY_LOCK = 0x636A7461736B73


def _url() -> str:
    named = context.config.get_main_option("sqlalchemy.url")
    return psycopg2_url(named) if named else load_settings().DATABASE_URL


def _offline() -> None:
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def _online() -> None:
    engine = create_engine(_url())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            # A table lock queued behind a long transaction blocks every worker; give up soon instead.
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            connection.execute(text("SET LOCAL statement_timeout = '60s'"))
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    _offline()
else:
    _online()
