"""The report page: whole, harmless, and the same numbers as the findings."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from cjtasks.domain.findings import Judgements, find
from cjtasks.domain.plain_words import in_words
from cjtasks.domain.votes import Answers
from cjtasks.research.rank_plot import CrowdedPlot, NamedPlot, rank_plot
from cjtasks.research.report import render
from cjtasks.research.tables import ScoredSession, essay_rows
from tests.simulation import simulated_batch

EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Collects the text of a page and what it would load or run; a tag that is not closed in its place is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [name for name, _ in attrs if name in {"src", "href", "xlink:href", "action"} or name[:2] == "on"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag == "td" else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def judged(essays: int, *, per_essay: int = 12, spread: float = 1.5) -> ScoredSession:
    _, given = simulated_batch(essays, per_essay, spread, np.random.default_rng(1))
    judges = np.random.default_rng(1).integers(3, size=given.first.size)
    found = find(Judgements(given, sides_known=True, judges=judges), np.random.default_rng(1))
    return ScoredSession(
        found, [EVIL, *(f"essay {n}" for n in range(1, essays))], ("Ann & Bo", "<b>Zoe", "Cy"), left_out=1
    )


@pytest.mark.parametrize("essays", [2, 5, 12, 61, 450])
def test_a_page_is_sound_and_loads_and_runs_nothing(essays: int) -> None:
    html = render(judged(essays), "session <1>.csv")
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "b"} & set(page.tags)
    assert page.loads == []
    assert not re.search(r"https?:|url\(|@import", html)


def test_names_are_shown_as_they_are() -> None:
    page = Page(render(judged(12), "session <1>.csv"))
    assert all(name in page.text for name in (EVIL, "Ann & Bo", "<b>Zoe", "session <1>.csv"))


def test_the_page_says_in_words_what_was_found_and_begins_with_it() -> None:
    given = judged(12)
    page = Page(render(given, "session"))
    places = [page.text.index(sentence) for sentence in in_words(given.findings)]
    assert places == sorted(places)
    assert places[0] < page.text.index("Reliability")
    assert "1 comparisons of an essay with itself left out" in page.text


def test_every_essay_has_its_line_with_its_score() -> None:
    given = judged(12)
    page = Page(render(given, "session"))
    cells = re.sub(r"\s+", " ", page.text)
    for row in essay_rows(given):
        score = f"{row.posterior_mean:+.2f}".replace("-", "\N{MINUS SIGN}")
        ranks = f"{row.rank} {row.rank_low}\N{EN DASH}{row.rank_high}"
        assert f"{ranks} {row.group} {row.id} {score} {row.posterior_sd:.2f}" in cells


def test_misfitting_essays_are_named() -> None:
    given = judged(61)
    misfits = [row for row in essay_rows(given) if row.misfit]
    assert misfits
    text = Page(render(given, "session")).text
    assert all(f"{row.id} infit {row.infit:.2f}, rank {row.rank}" in text for row in misfits)


def test_a_judge_who_tosses_coins_is_named_among_many_and_not_accused_among_few() -> None:
    truth, given = simulated_batch(20, 60, 2.0, np.random.default_rng(1))
    judges = np.arange(given.first.size) % 8
    tossed = np.where(judges == 3, np.random.default_rng(2).random(judges.size) < 0.5, given.first_won)
    answers = Answers(given.first, given.second, tossed, truth.size)
    essays, names = [f"essay {n}" for n in range(20)], [f"judge {n}" for n in range(8)]
    for count, said in ((8, "by the same rule: judge 3."), (4, "Fewer than 6 judges cannot be told apart")):
        found = find(Judgements(answers, judges=judges % count), np.random.default_rng(1))
        assert said in Page(render(ScoredSession(found, essays, names[:count]), "session")).text


def test_up_to_sixty_essays_have_a_named_line_each_with_the_score_within_its_interval() -> None:
    plot = rank_plot(essay_rows(judged(60)))
    assert isinstance(plot, NamedPlot)
    assert len(plot.lines) == 60
    assert all(plot.left < line.low < line.at < line.high < plot.width for line in plot.lines)
    assert [line.at for line in plot.lines] == sorted((line.at for line in plot.lines), reverse=True)
    assert len({line.y for line in plot.lines}) == 60


def test_the_zero_of_the_axis_is_where_a_score_of_zero_is_drawn() -> None:
    rows = essay_rows(judged(12))
    plot = rank_plot([row._replace(posterior_mean=0.0) if row.rank == 3 else row for row in rows])
    assert isinstance(plot, NamedPlot)
    assert next(tick.at for tick in plot.ticks if tick.label == "0") == plot.lines[2].at


def test_a_crowd_of_essays_is_drawn_with_as_many_strokes_as_can_be_seen() -> None:
    some, many = rank_plot(essay_rows(judged(61))), rank_plot(essay_rows(judged(61)) * 20)
    assert isinstance(some, CrowdedPlot)
    assert isinstance(many, CrowdedPlot)
    assert some.intervals.count("M") == 61
    assert 300 <= many.intervals.count("M") <= 400


def test_the_same_findings_make_the_same_page() -> None:
    assert render(judged(12), "session") == render(judged(12), "session")
