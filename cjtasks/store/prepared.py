"""Statements that every poll, bell and answer executes: parsed and planned once for each connection.

They go past the ORM, whose way to a statement takes as long as Postgres does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


class Prepared(NamedTuple):
    """A statement, the name that a connection knows it by, and the types of its arguments."""

    name: str
    types: str
    sql: str


def execute(session: Session, statement: Prepared, *arguments: object) -> Sequence[Any]:
    """Execute it and return its rows; an argument is a value, or text that Postgres reads as the type it has here."""
    return execute_in_turn(session, (statement,), *arguments)


def execute_in_turn(session: Session, statements: tuple[Prepared, ...], *arguments: object) -> Sequence[Any]:
    """Execute one after another with the same arguments, in one message to the server; return the last one's rows.

    Each sees what was committed when it began, so that the second one reads what the first had to wait for.
    """
    connection = session.connection()
    for statement in statements:
        if statement.name not in connection.info:
            connection.exec_driver_sql(f"PREPARE {statement.name} ({statement.types}) AS {statement.sql}")
            # The pool keeps this with the connection, and forgets both together.
            connection.info[statement.name] = True
    places = ", ".join(["%s"] * len(arguments))
    sql = "; ".join(f"EXECUTE {statement.name} ({places})" for statement in statements)
    result = connection.exec_driver_sql(sql, arguments * len(statements))
    return result.all() if result.returns_rows else ()
