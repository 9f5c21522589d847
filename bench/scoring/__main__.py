"""`python -m bench.scoring`: the path of the answers alone, and while a thousand batches are scored beside it."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from alembic.config import Config
from rich.console import Console
from sqlalchemy import text

from alembic import command
from bench.callbacks import facts, report
from bench.callbacks.forms import PROCFILE, Form, product
from bench.callbacks.run import Bench, run
from bench.server import tune
from cjtasks.clients import kafka
from cjtasks.dev.processes import Process, read_procfile
from cjtasks.dev.stack import stack
from cjtasks.settings import Settings
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    with _bench(folder, seconds) as bench:
        results = [run(bench, alone, rate), run(bench, beside, rate)]
        with bench.database.transaction() as session:
            scored = session.scalar(text("SELECT count(*) FROM cj_batch_states WHERE state = 'COMPLETED'"))
    report.show(results, {})
    Console().print(f"{scored} batches were scored while answers came")
    if any(result.problems for result in results):
        raise typer.Exit(1)


@contextmanager
def _bench(folder: Path | None, seconds: float) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as data:
        tune(Path(data))
        with stack(Path(data), durable=True, need_real_kafka=True) as services:
            settings = Settings.model_validate(
                {name.removeprefix("CJ_"): value for name, value in services.environment().items()}
            )
            config = Config(str(PROCFILE.parent / "alembic.ini"))
            config.set_main_option("sqlalchemy.url", settings.DATABASE_URL.replace("%", "%%"))
            command.upgrade(config, "head")
            kafka.ensure_topics(settings)
            with closing(Database(settings.DATABASE_URL)) as database:
                with database.transaction() as session:
                    facts.prepare(session)
                yield Bench(services, settings, database, warm_up=5.0, seconds=seconds)


if __name__ == "__main__":
    typer.run(main)
