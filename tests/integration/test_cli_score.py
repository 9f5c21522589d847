"""`cjtasks score` as researchers use it: on a file alone, without any service and any setting."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.integration.command import Command, assert_one_clear_line, in_this_process
from tests.simulation import simulated_batch

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cjtasks(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with in_this_process(monkeypatch, capfd) as command:
        yield command


def written(path: Path, essays: int = 12, *, more: str = "") -> Path:
    """Write a session with sides and judges, and further rows."""
    _, given = simulated_batch(essays, 16, 2.0, np.random.default_rng(1))
    lines = ["Chosen,Not Chosen,Judge,First"]
    for place, (first, second, first_won) in enumerate(zip(given.first, given.second, given.first_won, strict=True)):
        winner, loser = (first, second) if first_won else (second, first)
        lines.append(f"essay {winner},essay {loser},judge {place % 4},essay {first}")
    path.write_text("\n".join(lines) + "\n" + more, encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "session.csv")


def test_it_runs_where_the_environment_is_empty(file: Path) -> None:
    script = Path(sys.executable).with_name("cjtasks")
    only_the_code = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    run = subprocess.run(  # noqa: S603  The words are this test's own.
        [script, "score", file], env=only_the_code, cwd="/", capture_output=True, text=True, check=False, timeout=120
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "essay 7" in run.stdout


def test_the_ranking_stands_above_what_it_means_in_words(cjtasks: Command, file: Path) -> None:
    said = cjtasks("score", file)
    assert (said.code, said.err) == (0, "")
    words = " ".join(said.out.split())
    best = cjtasks("score", file, "--json").data["items"][0]["id"]
    assert words.index(best) < words.index("The differences between the essays are real")
    assert all(part in words for part in ("Reliability is 0.", "The ranking falls into", "logits"))


def test_json_and_csv_say_the_same_and_each_time_the_same(cjtasks: Command, file: Path) -> None:
    data = cjtasks("score", file, "--json").data
    lines = list(csv.DictReader(io.StringIO(cjtasks("score", file, "--csv").out)))
    assert [line["id"] for line in lines] == [item["id"] for item in data["items"]]
    assert [float(line["score"]) for line in lines] == [item["score"] for item in data["items"]]
    assert {judge["id"] for judge in data["judges"]} == {f"judge {n}" for n in range(4)}
    assert data["side_effect"]["se"] > 0
    assert data == cjtasks("score", file, "--json").data


def test_a_report_is_written_beside_what_is_printed(cjtasks: Command, file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = cjtasks("score", file, "--json", "--report", page)
    assert said.data["words"][0] in page.read_text(encoding="utf-8")


def test_the_target_decides_what_is_enough(cjtasks: Command, file: Path) -> None:
    assert cjtasks("score", file, "--json", "--target", 0.3).data["certainty"] == "enough"
    assert cjtasks("score", file, "--json", "--target", 0.99).data["certainty"] == "not_enough"


def test_a_language_models_repeats_count_once(cjtasks: Command, file: Path, tmp_path: Path) -> None:
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    twice = tmp_path / "twice.csv"
    twice.write_text("\n".join([header, *rows, *rows]), encoding="utf-8")
    once = cjtasks("score", file, "--json", "--language-model").data["reliability"]
    assert cjtasks("score", twice, "--json", "--language-model").data["reliability"] == pytest.approx(once)
    assert cjtasks("score", twice, "--json").data["reliability"] > once


def test_a_language_model_needs_to_be_asked_in_a_known_order(cjtasks: Command, tmp_path: Path) -> None:
    path = tmp_path / "session.csv"
    path.write_text("winner,loser\na,b\n", encoding="utf-8")
    assert_one_clear_line(cjtasks("score", path, "--language-model"), "column first")


def test_comparisons_of_an_essay_with_itself_are_counted_aloud(cjtasks: Command, tmp_path: Path) -> None:
    path = written(tmp_path / "session.csv", more="essay 1,essay 1,judge 1,essay 1\n")
    said = cjtasks("score", path, "--json")
    assert (said.code, said.data["left_out"], said.data["comparisons"]) == (0, 1, 96)
    assert said.err == "cjtasks: comparisons of an essay with itself left out: 1\n"


def test_of_many_essays_the_best_and_the_worst_are_shown(cjtasks: Command, tmp_path: Path) -> None:
    path = written(tmp_path / "session.csv", 70)
    shown, items = cjtasks("score", path).out, cjtasks("score", path, "--json").data["items"]
    assert len(items) == 70
    assert "35 more" in shown
    assert all(f" {items[place]['id']} " in shown for place in (0, 24, 60, 69))
    assert not any(f" {items[place]['id']} " in shown for place in (25, 59))


def test_brackets_in_a_name_are_no_markup(cjtasks: Command, tmp_path: Path) -> None:
    path = tmp_path / "session.csv"
    path.write_text("winner,loser\n[red]a,[/b]\n", encoding="utf-8")
    said = cjtasks("score", path)
    assert said.code == 0
    assert "[red]a" in said.out
    assert "[/b]" in said.out


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"winner,loser\na,b\na,\n", "line 3: loser is empty"),
        (b"id,text\n1,x\n", "no column winner"),
        (b"", "is empty"),
        (b"\x7fELF\x02\0\xff", "no UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_on_one_line(
    cjtasks: Command, tmp_path: Path, content: bytes, part: str
) -> None:
    path = tmp_path / "session.csv"
    path.write_bytes(content)
    assert_one_clear_line(cjtasks("score", path), part)


def test_a_file_that_is_not_there_and_a_place_that_takes_no_report_are_told_on_one_line(
    cjtasks: Command, file: Path, tmp_path: Path
) -> None:
    assert_one_clear_line(cjtasks("score", tmp_path / "absent.csv"), "absent.csv: no such file")
    assert_one_clear_line(cjtasks("score", tmp_path), "is a directory")
    assert_one_clear_line(cjtasks("score", file, "--report", tmp_path / "no" / "page.html"), "page.html: no such file")


@pytest.mark.parametrize("options", [("--json", "--csv"), ("--target", "0"), ("--target", "1.5")], ids=" ".join)
def test_options_that_make_no_sense_are_wrong_usage(cjtasks: Command, file: Path, options: tuple[str, ...]) -> None:
    said = cjtasks("score", file, *options)
    assert (said.code, said.out) == (2, "")
    assert "Error" in said.err
