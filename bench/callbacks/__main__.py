"""`python -m bench.callbacks`: every rate and form in turn, on a stack of its own."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the annotations.
from typing import TYPE_CHECKING, Annotated

import typer

from bench.callbacks import report
from bench.callbacks.forms import INLINE, ONE_EACH, Form, product, product_that_sends
from bench.callbacks.run import run
from bench.callbacks.stand import stand

if TYPE_CHECKING:
    from bench.callbacks.run import Measured

Rates = Annotated[str, typer.Option(help="Answers offered a second, one run each.")]
Seconds = Annotated[float, typer.Option(help="How long each run is measured.")]
WarmUp = Annotated[float, typer.Option(help="How long each run goes before it is measured.")]
Workers = Annotated[int, typer.Option(help="How many workers serve the queue of the answers.")]
Rounds = Annotated[int, typer.Option(help="How often all of it is measured; medians are shown as well.")]
Baselines = Annotated[bool, typer.Option(help="Run the other forms too.")]


def main(  # noqa: PLR0913, PLR0917  Each is an option of the command line.
    rates: Rates = "1000,4000,10000,15000",
    seconds: Seconds = 30.0,
    warm_up: WarmUp = 3.0,
    workers: Workers = 1,
    baselines: Baselines = True,
    rounds: Rounds = 1,
    folder: Path | None = None,
) -> None:
    """Measure how fast callbacks are recorded, check that none was lost or counted twice, and print the tables."""
    offered = [float(rate) for rate in rates.split(",")]
    runs: list[tuple[Form, float]] = [(product(workers), rate) for rate in offered]
    if baselines:
        runs += [(product_that_sends(workers), offered[len(offered) // 3])]
        runs += [(INLINE, offered[len(offered) // 2]), (ONE_EACH, min(offered))]
    before, results = report.earlier(), []
    with stand(folder, warm_up, seconds) as bench:
        for form, rate in runs * rounds:
            results.append(_told(run(bench, form, rate)))
    report.show(results, before)
    if rounds > 1:
        report.show_medians(results)
    typer.echo(f"The numbers are in {report.keep(results)}")
    if any(result.problems for result in results):
        raise typer.Exit(1)


def _told(result: Measured) -> Measured:
    typer.echo(
        f"{result.form} at {result.offered:,.0f}/s: {result.achieved:,.0f}/s, p99 {result.latency.p99:.1f} ms", err=True
    )
    return result


if __name__ == "__main__":
    typer.run(main)
