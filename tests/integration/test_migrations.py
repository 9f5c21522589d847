"""The migrations make what the models say, and can be undone with rows in every table."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Engine, Table, create_engine, delete, func, insert, inspect, select, text
from sqlalchemy.pool import NullPool

from alembic import command
from cjtasks.dev.postgres import create_database, drop_database
from cjtasks.domain.states import BatchStateEnum
from cjtasks.settings import psycopg2_url
from cjtasks.store.models import Base, CJBatchUpload

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TABLES = Base.metadata.sorted_tables

VALUES: dict[type, Any] = {
    int: 1,
    str: "text",
    bytes: b"bytes",
    object: {},
    list: [],
    datetime: datetime(2026, 3, 2, tzinfo=UTC),
}
PARTICULAR = {
    "cj_batch_states.state": BatchStateEnum.COMPLETED,
    "cj_comparison_pairs.status": "planned",
    "cj_comparison_pairs.essay_b_els_id": "another",
}

CATALOGUE = {
    "columns": """
        SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, is_identity
        FROM information_schema.columns WHERE table_schema = 'public'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "storage": """
        SELECT relname, option FROM pg_class, unnest(reloptions) AS option
        WHERE relnamespace = 'public'::regnamespace""",
    "types": """
        SELECT typname, enumlabel, enumsortorder FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid""",
}


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """Give an empty database of the test's own."""
    name = f"cj_migrate_{uuid4().hex}"
    yield create_engine(psycopg2_url(create_database(postgres_url, name)), poolclass=NullPool)
    drop_database(postgres_url, name)


@pytest.fixture
def migrated(database_url: str) -> Engine:
    return create_engine(psycopg2_url(database_url), poolclass=NullPool)


def config_of(engine: Engine) -> Config:
    config = Config(str(ROOT / "alembic.ini"), output_buffer=StringIO())
    url = engine.url.render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def catalogue(engine: Engine, what: str) -> set[tuple[Any, ...]]:
    """Read one side of the catalogue, without Alembic's own table."""
    with engine.connect() as connection:
        rows = connection.execute(text(CATALOGUE[what])).all()
    return {tuple(row) for row in rows if row[0] != "alembic_version"}


def value_of(column: Column[Any]) -> Any:
    name = f"{column.table.name}.{column.name}"
    if name in PARTICULAR:
        return PARTICULAR[name]
    kind = column.type.python_type
    return uuid4() if kind.__name__ == "UUID" else VALUES[kind]


def needed(column: Column[Any]) -> bool:
    given = column.identity is not None or column.server_default is not None
    return bool(column.foreign_keys) or not (column.nullable or given)


def fill(connection: Connection) -> None:
    """Put a row into every table that has none."""
    for table in TABLES:
        if count(connection, table) == 0:
            row = {column.name: value_of(column) for column in table.columns if needed(column)}
            connection.execute(insert(table).values(row))


def count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def test_every_table_can_be_made_undone_and_made_again_with_rows_in_it(engine: Engine) -> None:
    for _ in range(2):
        command.upgrade(config_of(engine), "head")
        with engine.begin() as connection:
            fill(connection)
            assert {table.name for table in TABLES if count(connection, table) != 1} == set()
        command.downgrade(config_of(engine), "base")
        assert set(inspect(engine).get_table_names()) == {"alembic_version"}


def test_nothing_is_left_behind_by_a_downgrade(engine: Engine) -> None:
    command.upgrade(config_of(engine), "head")
    command.downgrade(config_of(engine), "base")
    assert {what: catalogue(engine, what) for what in CATALOGUE} == {what: set() for what in CATALOGUE}
    left = """SELECT typname FROM pg_type
        WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic_version'
        UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"""
    with engine.connect() as connection:
        assert connection.scalars(text(left)).all() == []


def test_autogenerate_finds_nothing_to_do(migrated: Engine) -> None:
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize("what", sorted(CATALOGUE))
def test_the_migrations_make_what_the_models_say(engine: Engine, migrated: Engine, what: str) -> None:
    Base.metadata.create_all(engine)
    expected = catalogue(engine, what)
    assert expected
    assert catalogue(migrated, what) == expected


def test_every_migration_leads_to_the_next_one_and_back(engine: Engine) -> None:
    config = config_of(engine)
    steps = len(list((ROOT / "alembic" / "versions").glob("*.py")))
    for _ in range(steps):
        command.upgrade(config, "+1")
    for _ in range(steps):
        command.downgrade(config, "-1")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}


def test_all_times_have_a_zone_and_all_texts_are_unbounded(migrated: Engine) -> None:
    found = catalogue(migrated, "columns")
    zoneless = {"timestamp without time zone", "time without time zone", "date"}
    assert {(table, column) for table, column, kind, *_ in found if kind in zoneless} == set()
    bounded = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' \
        AND character_maximum_length IS NOT NULL AND table_name <> 'alembic_version'"
    with migrated.connect() as connection:
        assert connection.execute(text(bounded)).all() == []


def test_a_batch_goes_with_all_that_hangs_on_it(migrated: Engine) -> None:
    hanging = [table for table in TABLES if table.foreign_keys]
    with migrated.begin() as connection:
        fill(connection)
        connection.execute(delete(CJBatchUpload))
        assert len(hanging) >= 5
        assert {table.name for table in hanging if count(connection, table)} == set()


def test_the_gate_has_its_one_row(migrated: Engine) -> None:
    with migrated.connect() as connection:
        assert connection.execute(text("SELECT id, not_before, refusals FROM provider_gate")).all() == [(1, None, 0)]


def test_a_script_can_be_written_without_a_server(engine: Engine) -> None:
    config = config_of(engine)
    command.upgrade(config, "head", sql=True)
    script = config.output_buffer.getvalue()  # type: ignore[union-attr]
    made = set(re.findall(r"CREATE TABLE (\w+)", script))
    assert {table.name for table in TABLES} <= made
    assert inspect(engine).get_table_names() == []
