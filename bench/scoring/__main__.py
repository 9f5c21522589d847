"""`python -m bench.scoring`: the path of the answers alone, and while a thousand batches are scored beside it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the annotations.
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import text

from bench.callbacks import report
from bench.callbacks.forms import PROCFILE, Form, product
from bench.callbacks.run import run
from bench.callbacks.stand import stand
from cjtasks.dev.processes import Process, read_procfile

DUE_AFTER = 2.0

Rate = Annotated[float, typer.Option(help="Answers offered a second.")]
Seconds = Annotated[float, typer.Option(help="How long each run is measured.")]
Batches = Annotated[int, typer.Option(help="How many batches are scored.")]


def main(rate: Rate = 1000.0, seconds: Seconds = 30.0, batches: Batches = 1000, folder: Path | None = None) -> None:
    """Measure how soon answers are recorded while batches are scored, beside how soon they are without."""
    alone = product(1)
    scorer = next(process for process in read_procfile(PROCFILE) if process.name == "scorer")
    work = Process("batches", f"exec python -m bench.scoring.batches {batches} {DUE_AFTER}")
    beside = Form("while scoring", (*alone.processes, scorer, work))
    with stand(folder, 5.0, seconds) as bench:
        results = [run(bench, alone, rate), run(bench, beside, rate)]
        with bench.database.transaction() as session:
            scored = session.scalar(text("SELECT count(*) FROM cj_batch_states WHERE state = 'COMPLETED'"))
    report.show(results, {})
    Console().print(f"{scored} batches were scored while answers came")
    if any(result.problems for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
