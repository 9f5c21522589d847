"""`cjtasks simulate`: what a design, a judge and so many comparisons lead to, tried where the truth is known."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cjtasks.errors import Misconfigured
from cjtasks.research.designs import DesignName
from cjtasks.research.judges import Temper
from cjtasks.research.simulation import Scenario, UntilReliable, measured_at, measured_when_stopped
from cjtasks.research.summary import Row, row_when_stopped, rows_at

if TYPE_CHECKING:
    from cjtasks.research.summary import Estimate

Essays = Annotated[int, typer.Option(help="Essays in a session.")]
Spread = Annotated[float, typer.Option(help="Standard deviation of the true scores in logits; 0 is a coin toss.")]
Designs = Annotated[
    list[DesignName],
    typer.Option(
        "--design",
        help="How pairs are chosen; may be given again.",
        default_factory=lambda: ["ours"],
        show_default="ours",
    ),
]
PerEssay = Annotated[
    list[float],
    typer.Option(
        min=1,
        help="Comparisons an essay at which to score; may be given again.",
        default_factory=lambda: [8.0, 10.0, 12.0, 14.0, 16.0],
        show_default="8, 10, 12, 14, 16",
    ),
]
StopAt = Annotated[float | None, typer.Option(help="Stop when the lower quartile of the reliability is so high.")]
Noise = Annotated[float, typer.Option(help="1 is a Bradley-Terry judge, 0 one who is never wrong.")]
Side = Annotated[float, typer.Option(help="Logits in favour of the essay shown first.")]
Quirk = Annotated[float, typer.Option(help="Standard deviation in logits of what the judge adds to each pair.")]
Lapse = Annotated[float, typer.Option(help="Share of answers that are a coin toss.")]
Repeat = Annotated[float, typer.Option(help="Share of answers to the same ordered pair that repeat the last one.")]
Replications = Annotated[int, typer.Option(help="Sessions of each design.", min=1)]
Seed = Annotated[int, typer.Option(help="The same seed gives the same numbers.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON: the first design at the most comparisons, and every row.")
]

SHOWN = {
    "comparisons_per_essay": "per\nessay",
    "stopped": "stop-\nped",
    "tau": "tau",
    "r2": "r2",
    "honest_reliability": "relia-\nbility",
    "ssr": "SSR",
    "coverage": "scores\nin 95%",
    "difference_coverage": "diffs.\nin 95%",
    "side_effect": "side",
}

CAPTION = "in 95%: how many intervals of scores and of their differences hold the truth; ± error of the simulation"


def simulate(
    *,
    essays: Essays = 30,
    spread: Spread = 1.2,
    designs: Designs,
    per_essay: PerEssay,
    stop_at: StopAt = None,
    noise: Noise = 1.0,
    side: Side = 0.0,
    quirk: Quirk = 0.0,
    lapse: Lapse = 0.0,
    repeat: Repeat = 0.0,
    replications: Replications = 100,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Simulate sessions of comparative judgement and compare what they say with the truth.

    Pairs, stop rule and scores are those of a batch. With --stop-at, the largest --per-essay is the most comparisons.
    """
    try:
        scenario = Scenario(essays, spread, Temper(noise, side, quirk, lapse, repeat), seed)
        rule = UntilReliable(stop_at, max(per_essay)) if stop_at is not None else None
    except ValueError as error:
        raise Misconfigured.of(str(error), operation="simulate") from error
    rows = [row for design in designs for row in _rows(scenario, design, rule or per_essay, replications)]
    if as_json:
        typer.echo(json.dumps(_as_json(rows), indent=2))
    else:
        Console().print(_table(rows))


def _rows(scenario: Scenario, design: DesignName, until: UntilReliable | list[float], replications: int) -> list[Row]:
    stderr = Console(stderr=True)
    sessions = track(range(replications), design, console=stderr, transient=True, disable=not stderr.is_terminal)
    if isinstance(until, UntilReliable):
        return [row_when_stopped(design, [measured_when_stopped(scenario, design, until, one) for one in sessions])]
    return rows_at(design, [measured_at(scenario, design, until, one) for one in sessions])


def _as_json(rows: list[Row]) -> dict[str, Any]:
    first = [row for row in rows if row.design is rows[0].design]
    return _facts(first[-1]) | {"rows": [_facts(row) for row in rows]}


def _facts(row: Row) -> dict[str, Any]:
    """Return the mean of each measure under its name, null where it is not defined, and likewise the errors."""
    means = {name: _number(estimate.mean) for name, estimate in row.estimates.items()}
    errors = {name: _number(estimate.error) for name, estimate in row.estimates.items()}
    return {"design": row.design.value, "replications": row.sessions, **means, "errors": errors}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(rows: list[Row]) -> Table:
    """Show one row for each design and number of comparisons an essay."""
    shown = {name: title for name, title in SHOWN.items() if any(name in row.estimates for row in rows)}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), caption=CAPTION)
    table.add_column("design", no_wrap=True)
    for title in shown.values():
        table.add_column(title, justify="right", min_width=6)
    for row in rows:
        table.add_row(row.design.value, *(_text(row.estimates[name]) for name in shown))
    return table


def _text(estimate: Estimate) -> str:
    if math.isnan(estimate.mean):
        return "-"
    error = f" ±{estimate.error:.3f}".replace("±0", "±") if estimate.error > 0 else ""
    return f"{estimate.mean:.3f}".removesuffix(".000") + error
