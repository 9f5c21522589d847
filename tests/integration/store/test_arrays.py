"""Arrays written as text come back from Postgres as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import text

from cjtasks.store import arrays

if TYPE_CHECKING:
    from cjtasks.store.session import Database

NASTY = ['"', "\\", '\\"', "{}", "{a,b}", ",", "NULL", "null", "", " ", "\n\t", "'; --", "%s :name", "å 漢 🙂", "\x01"]


def read_back(database: Database, array: str, kind: str) -> Any:
    with database.transaction() as session:
        return session.scalar(text(f"SELECT CAST(:array AS {kind}[])"), {"array": array})


@pytest.mark.parametrize("values", [[], NASTY, [None, *NASTY, None]], ids=["none", "nasty", "nasty and nothing"])
def test_texts_come_back_as_they_were(database: Database, values: list[str | None]) -> None:
    assert read_back(database, arrays.texts(values), "text") == values


def test_numbers_and_truths_come_back_as_they_were(database: Database) -> None:
    assert read_back(database, arrays.plain([1, None, -(2**63)]), "bigint") == [1, None, -(2**63)]
    assert read_back(database, arrays.plain([0.1, None, 1e-300]), "float8") == [0.1, None, 1e-300]
    assert read_back(database, arrays.plain([True, None, False]), "boolean") == [True, None, False]


def test_ids_come_back_as_they_were(database: Database) -> None:
    values = [UUID(int=5), UUID(int=2**128 - 1)]
    assert read_back(database, arrays.plain(values), "uuid") == values


def test_moments_come_back_as_they_were(database: Database) -> None:
    values = [datetime(1, 1, 2, tzinfo=UTC), None, datetime(2026, 3, 2, 9, 0, 0, 123456, UTC)]
    assert read_back(database, arrays.moments(values), "timestamptz") == values
