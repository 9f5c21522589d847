"""Comparison files: one row a comparison, with the ids of its winner and its loser, whatever tool wrote it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cjtasks.domain.findings import Judgements
from cjtasks.domain.votes import Answers
from cjtasks.errors import UnusableFile

if TYPE_CHECKING:
    from _csv import Reader
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cjtasks.domain.votes import IntArray

DELIMITERS = ",;\t"
NAMES = {  # What the tools call each column; where a file has several of them, the first here is taken.
    "winner": ("winner", "winner_id", "chosen", "candidate_chosen", "chosen_candidate", "preferred", "selected"),
    "loser": ("loser", "loser_id", "not_chosen", "candidate_not_chosen", "not_chosen_candidate", "rejected"),
    "judge": ("judge", "judge_id", "judge_name", "assessor", "assessor_id", "rater", "rater_id", "model"),
    "first": ("first", "first_id", "shown_first", "left", "left_id"),
}
REQUIRED = ("winner", "loser")


@dataclass(frozen=True, slots=True)
class ComparisonFile:
    """What a file holds; the judgements name essays and judges by their places here, where both are sorted."""

    essays: tuple[str, ...]
    judges: tuple[str, ...]  # Empty where the file names none.
    judgements: Judgements
    left_out: int  # Rows that compare an essay with itself.


class _Row(NamedTuple):
    winner: str
    loser: str
    judge: str
    first: str


def read(path: Path) -> ComparisonFile:
    """Read UTF-8 with a header, separated by comma, semicolon or tab; UnusableFile names the line and the column."""
    text = _text(path)
    delimiter = max(DELIMITERS, key=_first_line(text).count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        return _read(lines)
    except csv.Error as error:
        raise _refused(f"line {lines.line_num}: {error}") from None


def _refused(why: str) -> UnusableFile:
    return UnusableFile.of(why, operation="read_comparisons")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refused(f"{path}: {(error.strerror or type(error).__name__).lower()}") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refused(f"{path} is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(f"{path} is no UTF-8 text: line {line} has the byte 0x{content[error.start]:02x}") from None
    if "\0" in text:
        raise _refused(f"{path} is no text: line {text.count(chr(10), 0, text.index(chr(0))) + 1} has a zero byte")
    if not text.strip():
        raise _refused(f"{path} is empty")
    return text


def _first_line(text: str) -> str:
    return text.lstrip().splitlines()[0]


def _read(lines: Reader) -> ComparisonFile:
    header = next(line for line in lines if any(line))
    columns = _columns(header)
    rows = list(_rows(lines, columns, len(header)))
    compared = [row for row in rows if row.winner != row.loser]
    if not compared:
        raise _refused("every row compares an essay with itself" if rows else "there is a header and no comparison")
    essays = sorted({essay for row in compared for essay in (row.winner, row.loser)})
    judges = sorted({row.judge for row in compared}) if "judge" in columns else []
    judgements = Judgements(
        answers=_answers(compared, essays),
        sides_known="first" in columns,
        judges=_places([row.judge for row in compared], judges) if judges else None,
    )
    return ComparisonFile(tuple(essays), tuple(judges), judgements, len(rows) - len(compared))


def _answers(rows: Sequence[_Row], essays: Sequence[str]) -> Answers:
    """Take the winner as first where the file does not say who stood first."""
    first_won = np.array([row.first in {"", row.winner} for row in rows])
    winners, losers = _places([row.winner for row in rows], essays), _places([row.loser for row in rows], essays)
    first, second = np.where(first_won, winners, losers), np.where(first_won, losers, winners)
    return Answers(first, second, first_won, len(essays))


def _places(names: Sequence[str], among: Sequence[str]) -> IntArray:
    place = {name: number for number, name in enumerate(among)}
    return np.array([place[name] for name in names], np.int64)


def _columns(header: list[str]) -> dict[str, int]:
    """Find the place of each column that we know, by the first of its names that is there."""
    plain = ["_".join(name.casefold().replace("-", " ").replace("_", " ").split()) for name in header]
    columns = {}
    for column, names in NAMES.items():
        named = next((name for name in names if name in plain), None)
        if named is not None and plain.count(named) > 1:
            raise _refused(f"the column {named} is there {plain.count(named)} times")
        if named is not None:
            columns[column] = plain.index(named)
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        found = ", ".join(name.strip() or "(no name)" for name in header)
        raise _refused(f"there is no column {' and no column '.join(missing)}; the columns are: {found}")
    return columns


def _rows(lines: Reader, columns: dict[str, int], width: int) -> Iterator[_Row]:
    for fields in lines:
        if not any(fields):
            continue
        if any(fields[width:]):
            raise _refused(f"line {lines.line_num}: {len(fields)} fields where the header has {width}")
        yield _row(fields, columns, lines.line_num)


def _row(fields: list[str], columns: dict[str, int], line: int) -> _Row:
    values = {column: fields[place].strip() if place < len(fields) else "" for column, place in columns.items()}
    for column, value in values.items():
        if not value:
            raise _refused(f"line {line}: {column} is empty")
    row = _Row(values["winner"], values["loser"], values.get("judge", ""), values.get("first", ""))
    if row.first and row.first not in {row.winner, row.loser}:
        raise _refused(f"line {line}: first is {row.first!r}, which is neither winner nor loser")
    return row
