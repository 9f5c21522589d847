"""How good the scores are, tried where the truth is known: `python -m bench.quality`, or with --quick.

Prints one table a question, in Markdown, and writes every number to bench/runs/quality.json; --page writes the tables
into the page of the documentation.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from bench.quality_tables import QUESTIONS
from bench.quality_trials import SESSIONS, Key, Results, Trial, keyed, trials
from cjtasks.research.summary import summarise

if TYPE_CHECKING:
    from cjtasks.research.measures import Measures

NUMBERS = Path(__file__).parent / "runs" / "quality.json"
PAGE = Path(__file__).parents[1] / "docs" / "quality.md"
START, END = "<!-- tables: written by python -m bench.quality --page -->\n", "<!-- end of tables -->"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Quick = Annotated[bool, typer.Option("--quick", help="A tenth of the sessions, for a first look.")]
Page = Annotated[bool, typer.Option("--page", help="Write the tables into docs/quality.md.")]
Processes = Annotated[int, typer.Option(help="Sessions that run at the same time, one thread each.", min=1)]
Seed = Annotated[int, typer.Option(help="The same seed gives the same tables.", min=0)]


def main(*, quick: Quick = False, page: Page = False, processes: Processes = 2, seed: Seed = 0) -> None:
    """Run every trial and print what it means."""
    os.environ |= dict.fromkeys(ONE_THREAD, "1")  # Each process of the pool reads it when it imports numpy.
    results: dict[Key, list[Measures]] = {}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for trial in track(list(trials()), "trials", console=Console(stderr=True)):
            replications = SESSIONS[trial.case.essays] // (10 if quick else 1)
            results |= _run(trial, seed, replications, pool)
    NUMBERS.parent.mkdir(exist_ok=True)
    NUMBERS.write_text(json.dumps(_as_json(results), indent=1), encoding="utf-8")
    tables = "\n".join(question(results) for question in QUESTIONS)
    typer.echo(tables)
    if page:
        _write(tables)


def _run(trial: Trial, seed: int, replications: int, pool: Executor) -> Results:
    sessions = pool.map(partial(trial.session, seed), range(replications), chunksize=5)
    return dict(keyed(trial, list(sessions)))


def _write(tables: str) -> None:
    """Put the tables between their two marks on the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}\n{tables}\n{END}{after}", encoding="utf-8")


def _as_json(results: Results) -> list[dict[str, Any]]:
    return [
        {**asdict(key.case), "design": key.design, "at": key.at, "sessions": len(sessions)}
        | {
            name: {"mean": _number(mean), "error": _number(error)}
            for name, (mean, error) in summarise(sessions).items()
        }
        for key, sessions in results.items()
    ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    typer.run(main)
