"""`cjtasks score`: what a file of comparisons says. It needs no service and no setting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cjtasks.cli.views import tell
from cjtasks.domain import findings
from cjtasks.domain.plain_words import in_words
from cjtasks.errors import UnusableFile
from cjtasks.research import comparison_file, tables
from cjtasks.research import report as page

if TYPE_CHECKING:
    from cjtasks.research.tables import EssayRow, ScoredSession

SEED = 0  # Rank intervals are drawn: the same file shall give the same ones.
SHOWN_WHOLE, BEST, WORST = 60, 25, 10  # Of more essays only so many are shown.

File = Annotated[Path, typer.Argument(help="CSV with the columns winner and loser; judge and first if you have them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print the essays as CSV.")]
Report = Annotated[Path | None, typer.Option(help="Write a page of HTML that opens without a network.")]
Target = Annotated[float, typer.Option(help="The reliability that is enough.", min=0.01, max=0.99)]
Model = Annotated[
    bool, typer.Option("--language-model", help="The judge repeats itself: count the same question once. Needs first.")
]


def score(
    file: File,
    *,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    report: Report = None,
    target: Target = findings.TARGET,
    language_model: Model = False,
) -> None:
    """Score the comparisons of any Comparative Judgement tool: a ranking, and in words how sure it is."""
    if as_json and as_csv:
        raise typer.BadParameter("take one of --json and --csv")
    session = _session(file, target, repeats_count_once=language_model)
    if report is not None:
        page.write(report, session, file.name)
    if as_json:
        typer.echo(json.dumps(tables.as_json(session), ensure_ascii=False))
    elif as_csv:
        typer.echo(tables.as_csv(session), nl=False)
    else:
        _print(session)
    if session.left_out:
        typer.echo(f"cjtasks: comparisons of an essay with itself left out: {session.left_out}", err=True)


def _session(file: Path, target: float, *, repeats_count_once: bool) -> ScoredSession:
    read = comparison_file.read(file)
    if repeats_count_once and not read.judgements.sides_known:
        raise UnusableFile.of("--language-model needs the column first: who stood first", operation="score")
    judgements = replace(read.judgements, repeats_count_once=repeats_count_once)
    found = findings.find(judgements, np.random.default_rng(SEED), target=target)
    return tables.ScoredSession(found, read.essays, read.judges, read.left_out)


def _print(session: ScoredSession) -> None:
    rows = tables.essay_rows(session)
    console = Console()
    console.print(_table(rows))
    console.print()
    tell(console, in_words(session.findings))


def _table(rows: list[EssayRow]) -> Table:
    table = Table("rank", "95 %", "group", "essay", "score", "± se", "judged", "infit", "")
    for column in table.columns:
        essay = column.header == "essay"
        column.justify, column.no_wrap, column.overflow = "left" if essay else "right", not essay, "fold"
    whole = len(rows) <= SHOWN_WHOLE
    for row in rows if whole else rows[:BEST]:
        table.add_row(*_cells(row))
    if not whole:
        table.add_row(
            "\N{HORIZONTAL ELLIPSIS}", "", "", f"{len(rows) - BEST - WORST:,} more: --csv or --report has them"
        )
        for row in rows[-WORST:]:
            table.add_row(*_cells(row))
    return table


def _cells(row: EssayRow) -> tuple[str | Text, ...]:
    """An id is text and never markup, whatever brackets it has."""
    return (
        str(row.rank),
        f"{row.rank_low}\N{EN DASH}{row.rank_high}",
        str(row.group),
        Text(row.id),
        f"{row.posterior_mean:+.2f}",
        f"{row.posterior_sd:.2f}",
        str(row.comparisons),
        f"{row.infit:.2f}",
        "misfit" if row.misfit else "",
    )
