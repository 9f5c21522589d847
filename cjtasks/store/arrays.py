"""Postgres arrays written as text, for the statements that carry a value for each of many messages.

psycopg2 would write each element as an expression of its own, which costs both sides more than all the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


def plain(values: Iterable[object]) -> str:
    """Write values whose text needs no quotes, such as numbers, ids and words of ours."""
    return _array(["NULL" if value is None else str(value) for value in values])


def moments(values: Iterable[datetime | None]) -> str:
    return _array(["NULL" if value is None else value.isoformat() for value in values])


def texts(values: Iterable[str | None]) -> str:
    return _array(["NULL" if value is None else _quoted(value) for value in values])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _array(elements: list[str]) -> str:
    return "{" + ",".join(elements) + "}"
