"""What every run stands on: the three services on empty data, a provider that only listens, and a warm broker."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.callbacks import facts
from bench.callbacks.forms import product
from bench.callbacks.run import Bench, run
from bench.server import migrate, tune
from bench.submissions.provider import provider
from cjtasks.clients import kafka
from cjtasks.dev.stack import stack
from cjtasks.settings import Settings
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

# A fresh broker compiles itself for this long, on a processor that all the others need; production's did so days ago.
WARMING_SECONDS, WARMING_RATE = 25.0, 8000.0


@contextmanager
def stand(folder: Path | None, warm_up: float, seconds: float) -> Iterator[Bench]:
    """Run all that is needed, Postgres with fsync and the advised settings, and yield it when the broker is warm."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as data:
        tune(Path(data))
        with stack(Path(data), durable=True, need_real_kafka=True) as services, provider() as asked:
            environment = services.environment()
            settings = Settings.model_validate({name.removeprefix("CJ_"): environment[name] for name in environment})
            migrate(settings.DATABASE_URL)
            kafka.ensure_topics(settings)
            with closing(Database(settings.DATABASE_URL)) as database:
                with database.transaction() as session:
                    facts.prepare(session)
                bench = Bench(services, settings, database, asked.url, warm_up, seconds)
                typer.echo("the broker warms up", err=True)
                run(replace(bench, seconds=WARMING_SECONDS), product(1), WARMING_RATE)
                yield bench
