"""The one place that commits, and telling the database's faults from the data's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from cjtasks.settings import psycopg2_url
from cjtasks.store.models import KafkaPosition
from cjtasks.store.session import LOOK_AFTER, Database, is_passing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session


def names(session: Session) -> list[str]:
    return list(session.scalars(select(KafkaPosition.topic)))


def position(topic: str) -> KafkaPosition:
    return KafkaPosition(topic=topic, partition=0, next_offset=0)


def test_a_block_that_ends_is_committed(database: Database) -> None:
    with database.transaction() as session:
        session.add(position("kept"))

    with database.transaction() as session:
        assert names(session) == ["kept"]


def test_a_block_that_raises_is_rolled_back(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            session.add(position("gone"))
            session.flush()
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    with database.transaction() as session:
        assert names(session) == []


@pytest.fixture
def bare(postgres_url: str) -> Iterator[Database]:
    """Give a database without our tables, for tests that need none."""
    database = Database(psycopg2_url(postgres_url))
    yield database
    database.close()


def error_of(database: Database, statement: str, **values: object) -> SQLAlchemyError:
    with pytest.raises(SQLAlchemyError) as raised, database.transaction() as session:
        session.execute(text(statement), values)
    return raised.value


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40001'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40P01'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '55P03'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '53300'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '25006'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '08006'; END $$",
    ],
)
def test_what_the_database_is_at_fault_for_passes(bare: Database, statement: str) -> None:
    assert is_passing(error_of(bare, statement))


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("SELECT 1 / 0", {}),
        ("CREATE TEMP TABLE once (id int PRIMARY KEY); INSERT INTO once VALUES (1), (1)", {}),
        ("SELECT CAST(:value AS timestamptz)", {"value": "no time"}),
        ("SELECT :value", {"value": object()}),
    ],
    ids=["division", "constraint", "cast", "not adaptable"],
)
def test_what_the_data_is_at_fault_for_stays(bare: Database, statement: str, values: dict[str, object]) -> None:
    error = error_of(bare, statement, **values)

    assert isinstance(error, DBAPIError)
    assert not is_passing(error)


def test_an_error_that_no_database_made_stays() -> None:
    assert not is_passing(ValueError("a NUL character"))
    assert not is_passing(IntegrityError("INSERT", {}, ValueError()))


def test_a_database_that_is_away_passes() -> None:
    away = Database("postgresql+psycopg2://nobody@127.0.0.1:1/nothing")

    with pytest.raises(OperationalError) as raised, away.transaction() as session:
        session.execute(text("SELECT 1"))

    assert is_passing(raised.value)
    away.close()


def end_the_pooled_connection(database: Database) -> None:
    with database.transaction() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    ender = Database(database.engine.url.render_as_string(hide_password=False))
    with ender.transaction() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    ender.close()


def test_a_connection_that_died_in_the_pool_is_replaced(database: Database) -> None:
    end_the_pooled_connection(database)
    time.sleep(LOOK_AFTER)

    with database.transaction() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_a_connection_that_died_a_moment_ago_fails_one_transaction_as_passing(database: Database) -> None:
    end_the_pooled_connection(database)

    with pytest.raises(OperationalError) as raised, database.transaction() as session:
        session.execute(text("SELECT 1"))

    assert is_passing(raised.value)
    with database.transaction() as session:
        assert session.scalar(text("SELECT 1")) == 1
