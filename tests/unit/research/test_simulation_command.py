from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cjtasks.cli import app
from cjtasks.errors import Misconfigured


def simulate(*options: str) -> Result:
    return CliRunner().invoke(app, ["simulate", "--replications", "3", *options])


def found(*options: str) -> dict[str, Any]:
    result = simulate("--json", *options)
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_means_are_printed_under_their_names() -> None:
    options = ("--essays", "10", "--per-essay", "8", "--spread", "2", "--side", "0.1", "--lapse", "0.02", "--seed", "1")
    answer = found(*options)
    assert answer["comparisons_per_essay"] == 8
    assert answer["replications"] == 3
    for name in ("tau", "r2", "honest_reliability", "coverage"):
        assert 0 < answer[name] <= 1
        assert answer["errors"][name] >= 0
    assert answer["ssr"] <= 1


def test_there_is_a_row_for_each_design_at_each_cost_and_the_first_design_at_the_last_cost_stands_above() -> None:
    costs = ("--per-essay", "16", "--per-essay", "8")
    answer = found("--essays", "12", "--design", "ours", "--design", "swiss", *costs)
    rows = [(row["design"], row["comparisons_per_essay"]) for row in answer["rows"]]
    assert rows == [("ours", 8), ("ours", 16), ("swiss", 8), ("swiss", 16)]
    assert {name: value for name, value in answer.items() if name != "rows"} == answer["rows"][1]


def test_what_is_not_defined_is_null_and_not_a_number_that_json_does_not_know() -> None:
    answer = found("--essays", "8", "--spread", "0", "--per-essay", "8")
    assert answer["tau"] is None
    assert answer["errors"]["tau"] is None


def test_the_same_seed_prints_the_same() -> None:
    options = (
        "--essays",
        "8",
        "--per-essay",
        "8",
        "--quirk",
        "0.8",
        "--lapse",
        "0.1",
        "--side",
        "0.4",
        "--repeat",
        "1",
    )
    assert found(*options, "--seed", "5") == found(*options, "--seed", "5")
    assert found(*options, "--seed", "5") != found(*options, "--seed", "6")


def test_a_stop_rule_ends_sessions_before_the_most_comparisons() -> None:
    answer = found("--essays", "20", "--spread", "4", "--stop-at", "0.6", "--per-essay", "14")
    assert answer["stopped"] == 1
    assert answer["comparisons_per_essay"] < 14


def test_the_table_has_a_line_for_each_row_and_a_dash_for_what_is_not_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    table = simulate(
        "--essays", "6", "--spread", "0", "--design", "random", "--per-essay", "8", "--per-essay", "10"
    ).stdout
    earlier, later = (line.split() for line in table.splitlines() if "random" in line)
    assert earlier[1] == "8"
    assert later[1] == "10"
    assert later.count("-") == 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--essays", "1"), "essays"),
        (("--lapse", "2"), "lapse"),
        (("--spread", "nan"), "spread"),
        (("--stop-at", "1"), "target"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(options: tuple[str, str], field: str) -> None:
    error = simulate(*options).exception
    assert isinstance(error, Misconfigured)
    assert error.error_detail.message.startswith(f"{field} must be")


def test_a_design_that_does_not_exist_is_wrong_usage() -> None:
    result = simulate("--design", "blossom")
    assert result.exit_code == 2
    assert "blossom" in result.output
