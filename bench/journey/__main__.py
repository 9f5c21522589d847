"""`python -m bench.journey`: so many batches at once, from the requests on Kafka to the last event."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench.journey import report
from bench.journey.crowd import Crowd
from bench.journey.run import Plan, run

PROVIDER = {"latency": 1.1, "jitter": 0.9, "error_rate": 0.02}
"""Answers come after 0.2 to 2 seconds, and one in fifty is an error."""

Batches = Annotated[int, typer.Option(help="How many batches of 12 essays come at once.")]
Large = Annotated[int, typer.Option(help="How many batches of 200 essays come among them.")]
Full = Annotated[bool, typer.Option("--full", help="1,000 batches of 12 essays and 20 of 200.")]
Small = Annotated[bool, typer.Option("--small", help="10,000 batches of 6 essays instead.")]
Within = Annotated[float, typer.Option(help="The seconds within which all batches come.")]
Submitters = Annotated[int, typer.Option(help="How many submitters run.")]
Scorers = Annotated[int, typer.Option(help="How many scorers run.")]
Patience = Annotated[float, typer.Option(help="The seconds after which the bench gives up.")]


def main(  # noqa: PLR0913, PLR0917  Each is an option of the command line.
    batches: Batches = 200,
    large: Large = 4,
    full: Full = False,
    small: Small = False,
    within: Within = 10.0,
    submitters: Submitters = 1,
    scorers: Scorers = 1,
    patience: Patience = 1800.0,
    folder: Path | None = None,
) -> None:
    """Run many batches at once through the whole product, watch it, and check that nothing is lost or double."""
    crowds = [Crowd(batches, 12), Crowd(large, 200)]
    if full:
        crowds = [Crowd(1000, 12), Crowd(20, 200)]
    if small:
        crowds = [Crowd(10_000, 6)]
    plan = Plan(crowds, within, PROVIDER, {"submitter": submitters, "scorer": scorers}, patience)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as data:
        journey = run(plan, Path(data))
    report.show(journey)
    if journey.problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
