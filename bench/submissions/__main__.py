"""`python -m bench.submissions`: the product and the bare posts in turn, then a slow provider, then a large batch."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.server import migrated
from bench.submissions import fairness, report, seed, senders
from bench.submissions.processors import processors
from bench.submissions.provider import Provider, provider
from bench.submissions.report import Measured
from bench.submissions.senders import Work
from cjtasks.settings import Settings
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

EACH = 48
SLOW_BATCHES = 25

Comparisons = Annotated[int, typer.Option(help="How many comparisons each run sends.")]
Processes = Annotated[str, typer.Option(help="How many processes send beside each other, one run each.")]
Rounds = Annotated[int, typer.Option(help="How often the two ways are measured in turn; the median is shown.")]
Slow = Annotated[float, typer.Option(help="How long a slow provider holds back its answer, in seconds.")]


@dataclass(frozen=True)
class Bench:
    settings: Settings
    database: Database
    provider: Provider


def main(  # noqa: PLR0913, PLR0917  Each is an option of the command line.
    comparisons: Comparisons = 4800,
    processes: Processes = "1,2",
    rounds: Rounds = 3,
    slow: Slow = 0.25,
    folder: Path | None = None,
) -> None:
    """Measure how fast comparisons are claimed, sent and recorded, and how much of the bare rate that is."""
    results = []
    # Only whole batches can be sent.
    count = comparisons // EACH * EACH
    with _bench(folder) as bench:
        for number in map(int, processes.split(",")):
            results += _in_turn(bench, f"{number} x", number, [count] * rounds)
        bench.provider.becomes(slow)
        results += _in_turn(bench, f"2 x, {1000 * slow:.0f} ms", 2, [SLOW_BATCHES * EACH])
        bench.provider.becomes(0.0)
        waits = fairness.measure(bench.database, bench.settings)
    report.show(results, waits)


def _in_turn(bench: Bench, name: str, number: int, counts: list[int]) -> list[Measured]:
    ways = {"bare": senders.post_all, "cjtasks": senders.submit_all}
    results = []
    for count in counts:
        for way, prepare in ways.items():
            _seed(bench, count)
            bodies = senders.bodies_of(bench.database, bench.settings) if way == "bare" else []
            works = [Work(bench.settings, bodies[part::number]) for part in range(number)]
            before = processors(bench.provider.pid)
            sent = senders.run(prepare, works)
            used = processors(bench.provider.pid).since(before)
            results.append(Measured(name, way, count, sent, used))
            typer.echo(f"{name} {way}: {results[-1].rate:,.0f}/s", err=True)
            if way == "cjtasks":
                _check(bench, count)
    return results


def _seed(bench: Bench, count: int) -> None:
    seed.empty(bench.database)
    with bench.database.transaction() as session:
        seed.plan(session, count // EACH, EACH)
    seed.settle(bench.database)


def _check(bench: Bench, count: int) -> None:
    with bench.database.transaction() as session:
        in_flight = seed.in_flight(session)
    if in_flight != count:
        raise RuntimeError(f"{count} comparisons were to be sent and {in_flight} are in flight")


@contextmanager
def _bench(folder: Path | None) -> Iterator[Bench]:
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as data,
        migrated(Path(data)) as url,
        provider() as asked,
    ):
        settings = Settings.model_validate({"DATABASE_URL": url, "LLM_PROVIDER_SERVICE_URL": asked.url})
        with closing(Database(settings.DATABASE_URL)) as database:
            yield Bench(settings, database, asked)


if __name__ == "__main__":
    typer.run(main)
