"""`cjtasks dead-letters`: what could not be used, and putting it back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cjtasks import bells
from cjtasks.cli.batch import AsJson, session_scope
from cjtasks.errors import OperationRefused
from cjtasks.runtime import runtime
from cjtasks.settings import load_settings
from cjtasks.steps.replay import replay, would_replay
from cjtasks.store import dead_letters
from cjtasks.store.dead_letters import Chosen
from consumers.routes import kinds

if TYPE_CHECKING:
    from cjtasks.store.models import DeadLetterRow

app = typer.Typer(help="Messages that could not be used.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only those with this reason, like UNKNOWN_CORRELATION.")]
Topic = Annotated[str | None, typer.Option(help="Only those from this topic.")]
Limit = Annotated[int, typer.Option(help="The most to take, oldest first.", min=1)]


@app.command(name="list")
def list_letters(*, reason: Reason = None, topic: Topic = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List dead letters that were not replayed, without their content."""
    with session_scope() as session:
        letters = [_view(row) for row in dead_letters.find(session, Chosen(reason=reason, topic=topic, limit=limit))]
    if as_json:
        typer.echo(json.dumps(letters))
        return
    table = Table("id", "reason", "detail", "topic", "partition", "offset", "received")
    for letter in letters:
        table.add_row(*(str(letter[name]) for name in list(letter)[:7]))
    Console().print(table)


def _view(row: DeadLetterRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "reason": row.reason,
        "detail": row.detail,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "received_at": row.received_at.isoformat(),
        "replayed_at": row.replayed_at.isoformat() if row.replayed_at else None,
        "bytes": len(row.payload),
    }


@app.command()
def show(letter_id: int, *, as_json: AsJson = False) -> None:
    """Show one dead letter with its content, which may hold personal data."""
    with session_scope() as session:
        rows = dead_letters.find(session, Chosen(ids=[letter_id], replayed=None))
        if not rows:
            raise OperationRefused.of(f"there is no dead letter {letter_id}", operation="show")
        letter = _view(rows[0]) | {"payload": rows[0].payload.decode("utf-8", "replace")}
    if as_json:
        typer.echo(json.dumps(letter))
        return
    for name, value in letter.items():
        typer.echo(f"{name}: {value}")


@app.command(name="replay")
def replay_letters(
    ids: Annotated[list[int] | None, typer.Argument(help="Their ids; all that the filters leave by default.")] = None,
    *,
    reason: Reason = None,
    topic: Topic = None,
    limit: Limit = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
) -> None:
    """Put dead letters back into the inbox; each is read again, and set aside again if it still cannot be used."""
    if not ids and reason is None and topic is None:
        raise typer.BadParameter("name ids, a --reason or a --topic")
    chosen = Chosen(ids=ids or None, reason=reason, topic=topic, limit=limit)
    if dry_run:
        with session_scope() as session:
            found = would_replay(session, chosen, kinds(load_settings()))
        typer.echo(_said("would replay", found))
        return
    replayed, rings = replay(runtime(), chosen, kinds(load_settings()))
    bells.ring(rings)
    typer.echo(_said("replayed", replayed))


def _said(what: str, ids: list[int]) -> str:
    return f"{what} {len(ids)}" + (f": {' '.join(map(str, ids))}" if ids else "")
