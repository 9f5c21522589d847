"""Every Celery task: do one step, ring what it returns. Arguments are ids; the rows say the rest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cjtasks import bells
from cjtasks.celery import app
from cjtasks.domain.states import Bell, Work
from cjtasks.runtime import Runtime, runtime
from cjtasks.steps import answers, intake, monitor, pairs, prepare, score, submit, sweep
from cjtasks.store import inbox
from cjtasks.store.inbox import Kind

if TYPE_CHECKING:
    from cjtasks.store.inbox import Step


def inbox_steps(chosen: Runtime) -> dict[Kind, Step]:
    """Return what is done with each kind of message; the consumer does the same while Redis is away."""
    return {
        Kind.REQUEST: partial(intake.open_batches, chosen),
        Kind.CALLBACK: partial(answers.record, chosen),
    }


def work_inbox_once(chosen: Runtime) -> list[Bell]:
    return inbox.work(chosen.database, chosen.clock, inbox_steps(chosen))


@app.task(name="cjtasks.inbox")
def work_inbox() -> None:
    bells.ring(work_inbox_once(runtime()))


@app.task(name="cjtasks.prepare")
def prepare_batch(batch_id: int) -> None:
    bells.ring(prepare.prepare_due(runtime(), Bell(Work.PREPARE, batch_id)))


@app.task(name="cjtasks.advance")
def advance_batch(batch_id: int) -> None:
    bells.ring(pairs.advance(runtime(), Bell(Work.ADVANCE, batch_id)))


@app.task(name="cjtasks.submit")
def submit_comparisons() -> None:
    bells.ring(submit.submit(runtime()))


@app.task(name="cjtasks.score")
def score_batch(batch_id: int) -> None:
    bells.ring(score.score(runtime(), Bell(Work.SCORE, batch_id)))


@app.task(name="cjtasks.partial")
def score_partially(batch_id: int) -> None:
    bells.ring(score.score_partially(runtime(), Bell(Work.PARTIAL, batch_id)))


@app.task(name="cjtasks.check")
def check_batch(batch_id: int) -> None:
    bells.ring(monitor.check(runtime(), Bell(Work.CHECK, batch_id)))


# Once a second it would bury all else that Flower shows.
@app.task(name="cjtasks.sweep", send_events=False)
def sweep_up() -> None:
    bells.ring_where_short(sweep.sweep(runtime()))


@app.task(name="cjtasks.monitor")
def monitor_batches() -> None:
    bells.ring(monitor.monitor(runtime()))


@app.task(name="cjtasks.clean")
def clean_inbox() -> None:
    sweep.clean(runtime())
