"""Reading comparison files of many tools, and what is said of those that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cjtasks.errors import UnusableFile
from cjtasks.research.comparison_file import ComparisonFile, read

if TYPE_CHECKING:
    from pathlib import Path


def reading(folder: Path, content: str | bytes) -> ComparisonFile:
    path = folder / "session.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path)


def refusal(folder: Path, content: str | bytes) -> str:
    with pytest.raises(UnusableFile) as refused:
        reading(folder, content)
    return refused.value.error_detail.message


def outcomes(file: ComparisonFile) -> list[tuple[str, str]]:
    """Return winner and loser of each comparison by name."""
    answers = file.judgements.answers
    sides = zip(answers.first.tolist(), answers.second.tolist(), answers.first_won.tolist(), strict=True)
    pairs = [(first, second) if first_won else (second, first) for first, second, first_won in sides]
    return [(file.essays[winner], file.essays[loser]) for winner, loser in pairs]


@pytest.mark.parametrize(
    "content",
    [
        "winner,loser\nb,a\nb,c\n",
        "\ufeffwinner,loser\nb,a\nb,c",
        "winner;loser\r\nb;a\r\nb;c\r\n",
        "Loser\tWinner\na\tb\nc\tb\n",
        "CHOSEN,Not Chosen\nb,a\nb,c\n",
        "candidate_chosen,candidate_not_chosen,time taken\nb,a,3\nb,c,\n",
        "\n\n  winner , loser \n b , a \n\n b,c \n,\n",
        'winner,loser\n"b","a"\nb,"c"\n',
        "winner,loser,,\nb,a,,\nb,c,,,\n",
    ],
    ids=["comma", "BOM", "semicolon", "tab", "other names", "more columns", "blanks", "quotes", "trailing commas"],
)
def test_winners_and_losers_are_found_however_the_file_is_written(tmp_path: Path, content: str) -> None:
    file = reading(tmp_path, content)
    assert (file.essays, outcomes(file)) == (("a", "b", "c"), [("b", "a"), ("b", "c")])
    assert (file.judges, file.judgements.judges, file.judgements.sides_known, file.left_out) == ((), None, False, 0)


@pytest.mark.parametrize("named", ["judge", "Judge ID", "assessor", "judge-name"])
def test_judges_are_sorted_and_counted_by_their_places(tmp_path: Path, named: str) -> None:
    file = reading(tmp_path, f"winner,loser,{named}\na,b,Zoe\nb,a,Ann\na,b,Zoe\n")
    assert file.judges == ("Ann", "Zoe")
    assert file.judgements.judges is not None
    assert file.judgements.judges.tolist() == [1, 0, 1]


@pytest.mark.parametrize("named", ["first", "Left", "shown first"])
def test_who_stood_first_is_kept_and_changes_no_outcome(tmp_path: Path, named: str) -> None:
    file = reading(tmp_path, f"winner,loser,{named}\na,b,b\nb,a,b\n")
    assert file.judgements.sides_known
    assert file.judgements.answers.first.tolist() == [1, 1]
    assert file.judgements.answers.first_won.tolist() == [False, True]
    assert outcomes(file) == [("a", "b"), ("b", "a")]


def test_the_order_of_the_rows_does_not_number_the_essays(tmp_path: Path) -> None:
    assert reading(tmp_path, "winner,loser\nz,a\nb,z\n").essays == ("a", "b", "z")


def test_of_several_names_for_a_column_the_plainest_counts(tmp_path: Path) -> None:
    file = reading(tmp_path, "judge_name,judge,winner,loser\nAnn,7,a,b\n")
    assert file.judges == ("7",)


def test_a_comparison_of_an_essay_with_itself_is_left_out_and_counted(tmp_path: Path) -> None:
    file = reading(tmp_path, "winner,loser,judge\na,a,Ann\na,b,Ann\nc,c,Bo\n")
    assert (file.essays, file.judges, file.left_out) == (("a", "b"), ("Ann",), 2)
    assert outcomes(file) == [("a", "b")]


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    names = ("=1+1", "<script>", 'the "best"', "Åsa, 3", "line\nbreak", "01", "1")
    rows = "".join('"{}",x\n'.format(name.replace('"', '""')) for name in names)
    assert set(reading(tmp_path, f"winner,loser\n{rows}").essays) == {*names, "x"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,b,J,a\na,,J,a", "line 3: loser is empty"),
        ("a,b,J,a\n,b,J,a", "line 3: winner is empty"),
        ("a,b,J,a\n\na,b, ,a", "line 4: judge is empty"),
        ("a,b,J", "line 2: first is empty"),
        ("a,b,J,c", "line 2: first is 'c', which is neither winner nor loser"),
        ("a,b,J,a,more", "line 2: 5 fields where the header has 4"),
        ('a,b,J,a\n"a,b,J,a\n', "line 3: unexpected end of data"),
        ('"a"c,b,J,a', "line 2: ',' expected after '\"'"),
        ("", "there is a header and no comparison"),
        ("a,a,J,a", "every row compares an essay with itself"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_line_and_column(tmp_path: Path, rows: str, said: str) -> None:
    assert refusal(tmp_path, f"winner,loser,judge,first\n{rows}") == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("winner,judge\na,J", "there is no column loser; the columns are: winner, judge"),
        ("id 1,,id 2\n", "there is no column winner and no column loser; the columns are: id 1, (no name), id 2"),
        ("winner,loser,Loser\na,b,c", "the column loser is there 2 times"),
        (b"", "session.csv is empty"),
        (b" \n\n", "session.csv is empty"),
        (b"\xef\xbb\xbf", "session.csv is empty"),
        (b"winner,loser\na,b\xff\n", "session.csv is no UTF-8 text: line 2 has the byte 0xff"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "session.csv is no UTF-8 text: line 1 has the byte 0x89"),
        (b"winner,loser\na,\0b\n", "session.csv is no text: line 2 has a zero byte"),
        ("winner,loser\na,b\n".encode("utf-16"), "session.csv is UTF-16; save it as UTF-8"),
    ],
)
def test_a_file_without_the_needed_columns_or_that_is_no_text_is_refused(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    assert refusal(tmp_path, content).removeprefix(f"{tmp_path}/") == said


def test_a_field_that_never_ends_is_refused_by_its_line(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path, 'winner,loser\na,b\na,"' + "x" * 200_000) == "line 3: field larger than field limit (131072)"
    )


def test_a_path_that_leads_to_no_file_is_named(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "absent.csv", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(UnusableFile, match=f"{path}: {said}"):
            read(path)
