"""`cjtasks batch cancel|retry|recount|explain`: what an operator asks of a batch and does to it."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from cjtasks import bells
from cjtasks.cli.batch import AsJson, BatchId, find, session_scope
from cjtasks.runtime import runtime, utc_now
from cjtasks.settings import load_settings
from cjtasks.steps import operate
from cjtasks.steps.explain import Explanation, explain
from cjtasks.steps.turn import Turn

Reason = Annotated[str, typer.Option(help="Why; kept with the action.", prompt="why")]
Operator = Annotated[str, typer.Option(help="Who; the name of this system's user by default.")]
Version = Annotated[int | None, typer.Option(help="Act only if the batch still has this version (batch explain).")]


def _order(batch_id: str, operator: str, reason: str, version: int | None) -> operate.Order:
    with session_scope() as session:
        state = find(session, batch_id).batch_state
        return operate.Order(state.batch_id, operator, reason, state.version if version is None else version)


def cancel(batch_id: BatchId, reason: Reason, operator: Operator = "", version: Version = None) -> None:
    """Stop a live batch: nothing more is asked, and a failed event with the status cancelled goes out."""
    order = _order(batch_id, operator or getpass.getuser(), reason, version)
    bells.ring(operate.cancel(runtime(), order))
    typer.echo(f"batch {order.batch_id} is cancelled")


def retry(batch_id: BatchId, reason: Reason, operator: Operator = "", version: Version = None) -> None:
    """Ask the failed comparisons of a waiting or failed batch again; a batch that ran out of time goes on."""
    order = _order(batch_id, operator or getpass.getuser(), reason, version)
    bells.ring(operate.retry(runtime(), order))
    typer.echo(f"batch {order.batch_id} asks its failed comparisons again")


def recount(
    batch_id: Annotated[str | None, typer.Argument(help="Our batch id, or the platform's.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every batch.")] = False,
) -> None:
    """Rebuild counters from the rows; exit code 1 when they differed."""
    if (batch_id is None) != every:
        raise typer.BadParameter("name a batch, or --all")
    differed = 0
    for one in _all_ids() if batch_id is None else [batch_id]:
        order = _order(one, getpass.getuser(), "recount", None)
        before, after = operate.recount(runtime(), order)
        if before != after:
            differed += 1
            typer.echo(f"batch {order.batch_id}: {_difference(before, after)}")
    typer.echo(f"{differed} batches differed")
    raise typer.Exit(1 if differed else 0)


def _difference(before: operate.Counts, after: operate.Counts) -> str:
    was, now = asdict(before), asdict(after)
    return ", ".join(f"{name} {was[name]} became {now[name]}" for name in was if was[name] != now[name])


def _all_ids() -> list[str]:
    with session_scope() as session:
        return operate.all_ids(session)


def explain_batch(batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Say why a batch is not done, and what happens next by itself."""
    with session_scope() as session:
        state = find(session, batch_id).batch_state
        explanation = explain(Turn(session, load_settings(), utc_now()), state)
    if as_json:
        typer.echo(json.dumps(explanation.as_json()))
    else:
        _print(explanation)


def _print(explanation: Explanation) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"batch {explanation.batch} is {explanation.state} since {explanation.since}")
    if explanation.stop_reason:
        console.print(f"reason: {explanation.stop_reason}")
    for cause in explanation.waits_for:
        console.print(f"waits for {cause}")
    if explanation.next_step:
        console.print(f"next: {explanation.next_step}, due {explanation.next_step_at}")
    console.print(f"version {explanation.version}")
