"""The tables of a journey."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.journey.run import Journey
    from bench.journey.watch import Point

WIDE = 160
ROWS = 12


def show(journey: Journey) -> None:
    console = Console(highlight=False, width=WIDE)
    console.print(_whole(journey), _throughput(journey), _processes(journey))
    for problem in journey.problems:
        console.print(f"WRONG: {problem}")
    if not journey.problems:
        console.print("Nothing lost, nothing twice: counters equal rows, every batch COMPLETED with its three events")


def _whole(journey: Journey) -> Table:
    columns = ["batches", "comparisons", "to the last event s", "comparisons/s", "answers p50 ms", "p99 ms", "max ms"]
    table = _table("The whole journey", [*columns, "connections"])
    latency = journey.latency
    table.add_row(
        f"{journey.batches:,}",
        f"{journey.comparisons:,}",
        f"{journey.seconds:.1f}",
        f"{journey.comparisons / journey.seconds:,.0f}",
        f"{latency.p50:.0f}",
        f"{latency.p99:.0f}",
        f"{latency.max:.0f}",
        f"{journey.connections}",
    )
    return table


def _throughput(journey: Journey) -> Table:
    table = _table("Over time", ["from s", "to s", "comparisons/s", "ended batches"])
    for before, after in pairwise(_thinned(journey.points)):
        rate = (after.processed - before.processed) / (after.seconds - before.seconds)
        table.add_row(f"{before.seconds:.0f}", f"{after.seconds:.0f}", f"{rate:,.0f}", f"{after.ended:,}")
    return table


def _thinned(points: Iterable[Point]) -> Iterator[Point]:
    """Keep so many points that the table fits on a page."""
    listed = list(points)
    step = max(1, -(-len(listed) // ROWS))
    yield from listed[:-1:step]
    yield listed[-1]


def _processes(journey: Journey) -> Table:
    columns = ["process", "processes", "peak MiB of one", "CPU s", "CPU us a comparison"]
    table = _table("What each process took", columns)
    for name, seen in journey.seen.items():
        each = 1e6 * seen.cpu_seconds / max(journey.comparisons, 1)
        table.add_row(name, f"{seen.processes}", f"{seen.peak_mib:.0f}", f"{seen.cpu_seconds:.1f}", f"{each:.0f}")
    return table


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table
