"""Findings as rows, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cjtasks.domain.findings import Judgements, find
from cjtasks.domain.votes import Answers
from cjtasks.research.tables import EssayRow, ScoredSession, as_csv, as_json, essay_rows, judge_rows
from tests.simulation import simulated_batch

NAMES = ("=1+1", "Åsa", "<b>", 'a "quote", and a comma', "e", "f", "g", "h")


def judged(essays: int = 8, **known: Any) -> ScoredSession:
    _, given = simulated_batch(essays, 12, 1.5, np.random.default_rng(1))
    judgements = replace(Judgements(given), **known)
    judges = () if judgements.judges is None else ("Zoe", "Ann", "Bo")
    return ScoredSession(find(judgements, np.random.default_rng(1)), NAMES[:essays], judges, left_out=2)


def with_judges() -> ScoredSession:
    return judged(judges=np.random.default_rng(1).integers(3, size=48), sides_known=True)


def test_rows_stand_best_first_with_the_numbers_of_their_essay() -> None:
    given = judged()
    rows = essay_rows(given)
    assert [row.rank for row in rows] == list(range(1, 9))
    for row in rows:
        index = NAMES.index(row.id)
        assert row.posterior_mean == given.findings.assessment.means[index]
        assert row.posterior_sd == math.sqrt(given.findings.assessment.variances[index])
        assert (row.score, row.se) == (
            given.findings.conventional.scores[index],
            given.findings.conventional.standard_errors[index],
        )
        assert row.comparisons == 12


def test_an_essay_without_a_comparison_has_no_row_and_shifts_no_name() -> None:
    _, given = simulated_batch(7, 12, 1.5, np.random.default_rng(1))
    found = find(Judgements(Answers(given.first + 1, given.second + 1, given.first_won, 8)), np.random.default_rng(1))
    rows, data = essay_rows(ScoredSession(found, NAMES)), as_json(ScoredSession(found, NAMES))
    assert {row.id for row in rows} == set(NAMES[1:])
    assert data["unscored"] == [NAMES[0]]
    assert len(data["items"]) == 7


def test_judges_stand_worst_fit_first() -> None:
    rows = judge_rows(with_judges())
    assert {row.id for row in rows} == {"Zoe", "Ann", "Bo"}
    assert [row.infit for row in rows] == sorted((row.infit for row in rows), reverse=True)
    assert sum(row.comparisons for row in rows) == 48
    assert judge_rows(judged()) == []


def test_json_has_the_names_that_scripts_rely_on() -> None:
    data = as_json(with_judges())
    assert data.keys() >= {"items", "reliability", "ssr", "separation", "components", "judges", "side_effect"}
    items = {"id", "score", "se", "infit", "outfit", "comparisons", "wins", "rank"}
    assert data["items"][0].keys() >= items | {"posterior_mean", "posterior_sd", "rank_low", "rank_high"}
    assert data["judges"][0].keys() >= {"id", "infit", "outfit", "comparisons"}
    assert data["side_effect"].keys() == {"eta", "se", "z"}
    assert (data["components"], data["comparisons"], data["left_out"]) == (1, 48, 2)
    assert data["words"]


def test_what_is_not_known_is_null_in_json_and_empty_in_csv() -> None:
    few = judged(5)
    data = json.loads(json.dumps(as_json(few), allow_nan=False))
    assert [data[name] for name in ("reliability", "certainty", "side_effect", "more_comparisons")] == [None] * 4
    assert data["judges"] == []
    assert data["items"][-1]["swap_below"] is None
    assert list(csv.DictReader(io.StringIO(as_csv(few))))[-1]["swap_below"] == ""


def test_csv_is_read_back_as_it_was_written() -> None:
    given = judged()
    lines = list(csv.DictReader(io.StringIO(as_csv(given))))
    rows = essay_rows(given)
    assert tuple(lines[0]) == EssayRow._fields
    assert [line["id"] for line in lines] == [row.id for row in rows]
    assert [float(line["posterior_mean"]) for line in lines] == pytest.approx([row.posterior_mean for row in rows])
