"""The tables of the bench of submissions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.submissions.fairness import Waits
    from bench.submissions.processors import Processors
    from bench.submissions.senders import Sent

WIDE = 160


@dataclass(frozen=True)
class Measured:
    """One run of one way; `used` is what Postgres and the provider used meanwhile."""

    name: str
    way: str
    count: int
    sent: Sequence[Sent]
    used: Processors

    @property
    def rate(self) -> float:
        """Comparisons a second, from the first process's begin to the last one's end."""
        return self.count / (max(one.ended for one in self.sent) - min(one.began for one in self.sent))

    def cost(self, seconds: float) -> float:
        """Return microseconds a comparison."""
        return 1e6 * seconds / self.count

    @property
    def senders(self) -> float:
        return sum(one.cpu for one in self.sent)

    @property
    def ours(self) -> float:
        """Processor seconds of all that is ours: the senders and Postgres."""
        return self.senders + self.used.postgres


def show(results: Iterable[Measured], waits: Waits) -> None:
    console = Console(highlight=False, width=WIDE)
    console.print(_rates(results), _waits(waits))


def _rates(results: Iterable[Measured]) -> Table:
    groups: dict[str, dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result.name][result.way].append(result)
    columns = ["processes", "way", "a second", "of bare %", "a CPU-second", "sender us", "postgres us", "provider us"]
    table = _table("Comparisons sent (medians; microseconds of processor time a comparison)", columns)
    for name, ways in groups.items():
        bare = median(run.rate for run in ways["bare"])
        for way, runs in ways.items():
            rate = median(run.rate for run in runs)
            table.add_row(name, way, f"{rate:,.0f}", f"{100 * rate / bare:.0f}", *_costs(runs))
    return table


def _costs(runs: Sequence[Measured]) -> list[str]:
    return [
        f"{median(run.count / run.ours for run in runs):,.0f}",
        f"{median(run.cost(run.senders) for run in runs):.0f}",
        f"{median(run.cost(run.used.postgres) for run in runs):.0f}",
        f"{median(run.cost(run.used.provider) for run in runs):.0f}",
    ]


def _waits(waits: Waits) -> Table:
    columns = ["small batch of 20", "alone s", "beside 10,000 s", "longest s", "of the large one left"]
    table = _table("From planned to accepted", columns)
    row = (f"{waits.alone:.2f}", f"{waits.beside:.2f}", f"{waits.beside_longest:.2f}", f"{waits.large_left:,}")
    table.add_row("median of 5", *row)
    return table


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 1 else "right")
    return table
