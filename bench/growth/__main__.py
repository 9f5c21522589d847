"""`python -m bench.growth`: the same batches beside ever more that is stored, one database a size, in turn."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bench.growth.fill import fill
from bench.growth.steps import CALLBACK, STEPS, Walk
from bench.server import migrated
from cjtasks import runtime
from cjtasks.dev import fake_content
from cjtasks.dev.demo_essays import demo_essays
from cjtasks.dev.postgres import create_database
from cjtasks.ops import logging
from cjtasks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZES = (1_000, 10_000, 100_000)
LARGEST = 1_000_000
ESSAYS = 6
WARM_UP = 3
COMPARISONS = 24
WIDE = 160

Full = Annotated[bool, typer.Option("--full", help="With a million comparisons stored too.")]
Rounds = Annotated[int, typer.Option(help="How often each size is measured, in turn with the others.")]


def main(full: Full = False, rounds: Rounds = 40, folder: Path | None = None) -> None:
    """Time the product's steps with more and more stored, and show whether their cost stays flat."""
    logging.configure("WARNING", "bench")
    sizes = (*SIZES, LARGEST) if full else SIZES
    with ExitStack() as running:
        data = running.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="bench-"))
        server = running.enter_context(migrated(Path(data)))
        walks = {size: _walk(running, create_database(server, f"with_{size}", "cjtasks"), size) for size in sizes}
        for _ in range(WARM_UP):
            for walk in walks.values():
                walk.walk()
        for walk in walks.values():
            walk.seconds.clear()
        for _ in range(rounds):
            for walk in walks.values():
                walk.walk()
    _show(walks)


def _walk(running: ExitStack, url: str, size: int) -> Walk:
    content = fake_content.FakeContent()
    texts = running.enter_context(fake_content.running(content))
    settings = Settings.model_validate({"DATABASE_URL": url, "CONTENT_SERVICE_URL": texts, "MAX_ITERATIONS": 1})
    chosen = runtime.build(settings)
    running.enter_context(closing(chosen.database))
    fill(chosen.database, size)
    essays = islice(demo_essays().values(), ESSAYS)
    return Walk(chosen, {f"essay-{number}": content.put(text.encode()) for number, text in enumerate(essays)})


def _show(walks: Mapping[int, Walk]) -> None:
    title = f"Milliseconds, medians: a callback by comparison, the others by batch of {ESSAYS} essays"
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for column in ("stored comparisons", *STEPS, "a batch", "callback against the smallest %", "batch against it %"):
        table.add_column(column, justify="right")
    medians = {size: {step: 1000 * median(walk.seconds[step]) for step in STEPS} for size, walk in walks.items()}
    first = medians[min(medians)]
    for size, steps in medians.items():
        against = (100 * (steps[CALLBACK] / first[CALLBACK] - 1), 100 * (_batch(steps) / _batch(first) - 1))
        costs = (*(steps[step] for step in STEPS), _batch(steps))
        table.add_row(f"{size:,}", *(f"{cost:.3f}" for cost in costs), *(f"{percent:+.0f}" for percent in against))
    Console(highlight=False, width=WIDE).print(table)


def _batch(steps: Mapping[str, float]) -> float:
    """Return what a batch of six essays costs in all, its 24 answers included."""
    return sum(cost * (COMPARISONS if step == CALLBACK else 1) for step, cost in steps.items())


if __name__ == "__main__":
    typer.run(main)
