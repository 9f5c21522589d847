"""`python -m bench.callbacks`: every rate and form in turn, on a stack of its own."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from alembic.config import Config
from sqlalchemy import create_engine, text

from alembic import command
from bench.callbacks import facts, report
from bench.callbacks.forms import INLINE, ONE_EACH, PROCFILE, Form, product
from bench.callbacks.run import Bench, run
from cjtasks.clients import kafka
from cjtasks.dev.postgres import postgres
from cjtasks.dev.stack import stack
from cjtasks.settings import Settings, psycopg2_url
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.callbacks.run import Measured
    from cjtasks.dev.stack import Stack

# What operators are advised to set, and the commit times that the latency is read from.
SERVER = {
    "track_commit_timestamp": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
}

# A fresh broker compiles itself for this long, on a processor that all the others need; production's did so days ago.
WARMING_SECONDS, WARMING_RATE = 25.0, 8000.0

Rates = Annotated[str, typer.Option(help="Answers offered a second, one run each.")]
Seconds = Annotated[float, typer.Option(help="How long each run is measured.")]
WarmUp = Annotated[float, typer.Option(help="How long each run goes before it is measured.")]
Workers = Annotated[int, typer.Option(help="How many workers serve the queue of the answers.")]
Baselines = Annotated[bool, typer.Option(help="Run the two other forms too.")]


def main(  # noqa: PLR0913, PLR0917  Each is an option of the command line.
    rates: Rates = "1000,4000,10000,15000",
    seconds: Seconds = 30.0,
    warm_up: WarmUp = 3.0,
    workers: Workers = 1,
    baselines: Baselines = True,
    folder: Path | None = None,
) -> None:
    """Measure how fast callbacks are recorded, check that none was lost or counted twice, and print the tables."""
    offered = [float(rate) for rate in rates.split(",")]
    runs: list[tuple[Form, float]] = [(product(workers), rate) for rate in offered]
    if baselines:
        runs += [(INLINE, offered[len(offered) // 2]), (ONE_EACH, min(offered))]
    before, results = report.earlier(), []
    with _bench(folder, warm_up, seconds) as bench:
        typer.echo("the broker warms up", err=True)
        run(replace(bench, seconds=WARMING_SECONDS), product(workers), WARMING_RATE)
        for form, rate in runs:
            results.append(_told(run(bench, form, rate)))
    report.show(results, before)
    typer.echo(f"The numbers are in {report.keep(results)}")
    if any(result.problems for result in results):
        raise typer.Exit(1)


def _told(result: Measured) -> Measured:
    typer.echo(
        f"{result.form} at {result.offered:,.0f}/s: {result.achieved:,.0f}/s, p99 {result.latency.p99:.1f} ms", err=True
    )
    return result


@contextmanager
def _bench(folder: Path | None, warm_up: float, seconds: float) -> Iterator[Bench]:
    """Run the three services on empty data, Postgres with fsync and the advised settings."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as data:
        _configure_postgres(Path(data))
        with stack(Path(data), durable=True, need_real_kafka=True) as services:
            settings = _settings(services)
            _release(settings)
            with closing(Database(settings.DATABASE_URL)) as database:
                with database.transaction() as session:
                    facts.prepare(session)
                yield Bench(services, settings, database, warm_up, seconds)


def _configure_postgres(data: Path) -> None:
    """Write the settings that a server only takes at its start into its data, where the stack will find them."""
    with postgres(data / "postgres", durable=True) as url:
        engine = create_engine(psycopg2_url(url), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name, value in SERVER.items():
                connection.execute(text(f"ALTER SYSTEM SET {name} = '{value}'"))
        engine.dispose()


def _settings(services: Stack) -> Settings:
    return Settings.model_validate({name.removeprefix("CJ_"): value for name, value in services.environment().items()})


def _release(settings: Settings) -> None:
    config = Config(str(PROCFILE.parent / "alembic.ini"))
    config.set_main_option("sqlalchemy.url", settings.DATABASE_URL.replace("%", "%%"))
    command.upgrade(config, "head")
    kafka.ensure_topics(settings)


if __name__ == "__main__":
    typer.run(main)
