"""`cjtasks batch`: look at batches."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Text, cast, or_, select

from cjtasks.cli import views
from cjtasks.cli.views import Progressing, final_snapshot, look, ranking_table, tell
from cjtasks.errors import Misconfigured, OperationRefused
from cjtasks.research import report as page
from cjtasks.research.tables import ScoredSession
from cjtasks.settings import load_settings
from cjtasks.steps import ranking
from cjtasks.store.models import CJBatchState, CJBatchUpload
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from cjtasks.steps.ranking import Judged

app = typer.Typer(help="Look at batches.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Report = Annotated[Path | None, typer.Option(help="Write a page of HTML that opens without a network.")]
BatchId = Annotated[str, typer.Argument(help="Our batch id, or the platform's.")]


@contextmanager
def session_scope() -> Iterator[Session]:
    database = Database(load_settings().DATABASE_URL)
    try:
        with database.transaction() as session:
            yield session
    finally:
        database.close()


def find(session: Session, batch_id: str) -> CJBatchUpload:
    """Return the newest batch of this id, ours or the platform's; Misconfigured when there is none."""
    upload = session.scalars(
        select(CJBatchUpload)
        .where(or_(CJBatchUpload.bos_batch_id == batch_id, cast(CJBatchUpload.id, Text) == batch_id))
        .order_by(CJBatchUpload.id.desc())
        .limit(1)
    ).first()
    if upload is None:
        raise Misconfigured.of(f"there is no batch {batch_id}", operation="find_batch")
    return upload


@app.command(name="list")
def list_batches(
    *, as_json: AsJson = False, limit: Annotated[int, typer.Option(help="The most to list.", min=1)] = 50
) -> None:
    """List the newest batches."""
    with session_scope() as session:
        states = session.scalars(select(CJBatchState).order_by(CJBatchState.batch_id.desc()).limit(limit)).all()
        views = [look(session, state.batch_upload) for state in states]
    if as_json:
        typer.echo(json.dumps([view.as_json() for view in views]))
        return
    table = Table("batch", "platform's id", "state", "answered", "failed", "planned", "iteration", "cost")
    for view in views:
        table.add_row(*view.row())
    Console().print(table)


@app.command()
def show(batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Show where a batch stands and what it waits for."""
    with session_scope() as session:
        view = look(session, find(session, batch_id))
    _print(view, as_json=as_json)


@app.command()
def results(batch_id: BatchId, *, as_json: AsJson = False, report: Report = None) -> None:
    """Show the ranking of a batch, scores and standard errors in logits, and in words how sure it is."""
    with session_scope() as session:
        upload = find(session, batch_id)
        final = final_snapshot(session, upload.id)
        shown, words = views.results(upload, final), final.words if final else []
        judged = ranking.judged(session, upload.id)
        title = f"Batch {upload.bos_batch_id}"
    if report is not None:
        page.write(report, _scored(judged), title)
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in shown]))
        return
    console = Console()
    console.print(ranking_table(shown))
    tell(console, words)


def _scored(judged: Judged) -> ScoredSession:
    if not judged.judgements.answers.first.size:
        raise OperationRefused.of("nothing was compared yet", operation="batch_results")
    return ScoredSession(ranking.rank(judged, load_settings().RELIABILITY_TARGET).findings, judged.essays)


def _print(view: Progressing, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(view.as_json()))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in view.as_json().items():
        table.add_row(name, "-" if value is None else str(value))
    Console().print(table)
