"""The table of a bench and its file of numbers, with what the last bench had beside it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.callbacks.run import Measured

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "callbacks"
PROCESSES = ("consumer", "worker", "worker child", "postgres", "valkey", "broker", "submitter", "provider", "load")
WIDE = 200

Earlier = dict[tuple[str, float], dict[str, Any]]


def earlier() -> Earlier:
    """Return what the last bench measured, by form and rate; nothing if there was none."""
    files = sorted(FOLDER.glob("*.json"))
    if not files:
        return {}
    runs = json.loads(files[-1].read_text(encoding="utf-8"))
    return {(run["form"], run["offered"]): run for run in runs}


def keep(results: Sequence[Measured]) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    return path


def show(results: Sequence[Measured], before: Earlier) -> None:
    console = Console(highlight=False, width=WIDE)
    console.print(_speed(results, before), _processors(results))
    for result in results:
        for problem in result.problems:
            console.print(f"WRONG at {result.offered:,.0f}/s ({result.form}): {problem}")


def show_medians(results: Sequence[Measured]) -> None:
    """Print what the rounds of each run came to in the middle, and all of their p99."""
    table = _table(
        "Medians of the rounds", ["form", "offered/s", "achieved/s", "p50 ms", "p99 ms", "CPU us", "all p99"]
    )
    rounds: dict[tuple[str, float], list[Measured]] = defaultdict(list)
    for one in results:
        rounds[one.form, one.offered].append(one)
    for (form, offered), ran in rounds.items():
        table.add_row(
            form,
            f"{offered:,.0f}",
            f"{median(one.achieved for one in ran):,.0f}",
            f"{median(one.latency.p50 for one in ran):.1f}",
            f"{median(one.latency.p99 for one in ran):.1f}",
            f"{median(ours(one.processors) for one in ran):.0f}",
            ", ".join(f"{one.latency.p99:.0f}" for one in ran),
        )
    Console(highlight=False, width=WIDE).print(table)


def ours(processors: dict[str, float]) -> float:
    """Sum up the microseconds of a message without those of the load and of what is sent beside it."""
    return sum(used for name, used in processors.items() if name not in {"load", "bench", "submitter", "provider"})


def _speed(results: Iterable[Measured], before: Earlier) -> Table:
    columns = ["form", "offered/s", "achieved/s", "p50 ms", "p99 ms", "p99 before", "max ms", "backlog at the end"]
    columns += ["CPU us", "CPU before", "WAL B", "whole pages", "commits/s", "messages a row", "sent/s", "others %"]
    table = _table("A message's way from the produce call to the committed row", columns)
    for one in results:
        last = before.get((one.form, one.offered))
        table.add_row(
            one.form,
            f"{one.offered:,.0f}",
            f"{one.achieved:,.0f}",
            f"{one.latency.p50:.1f}",
            f"{one.latency.p99:.1f}",
            f"{last['latency']['p99']:.1f}" if last else "-",
            f"{one.latency.max:.0f}",
            f"{one.backlog:,}",
            f"{ours(one.processors):.0f}",
            f"{ours(last['processors']):.0f}" if last else "-",
            f"{one.wal_bytes:,.0f}",
            f"{one.whole_pages:.3f}",
            f"{one.commits_a_second:.0f}",
            f"{one.messages_a_row:.1f}",
            f"{one.sent_a_second:.0f}",
            f"{100 * one.others:.0f}",
        )
    return table


def _processors(results: Iterable[Measured]) -> Table:
    table = _table("Processor time in microseconds a message, by process", ["form", "offered/s", *PROCESSES])
    for one in results:
        used = [f"{one.processors.get(name, 0.0):.0f}" for name in PROCESSES]
        table.add_row(one.form, f"{one.offered:,.0f}", *used)
    return table


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table
