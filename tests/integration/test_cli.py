"""The `cjtasks` command as people and scripts use it: what it prints, where, and with which exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer

from cjtasks.cli import app
from cjtasks.dev.servers import free_port
from cjtasks.domain.states import BatchStateEnum
from tests.factories import batch_in
from tests.integration.command import Command, assert_one_clear_line, in_this_process, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cjtasks.testing import EagerPlatform

TEXTS = {f"essay-{n}": "A thought. " * n for n in range(1, 5)}


@pytest.fixture
def cjtasks(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with in_this_process(monkeypatch, capfd) as command:
        yield command


@pytest.fixture
def platform(eager_cj: EagerPlatform, database_url: str, monkeypatch: pytest.MonkeyPatch) -> EagerPlatform:
    """Give a platform on whose database the command works."""
    monkeypatch.setenv("CJ_DATABASE_URL", database_url)
    return eager_cj


@pytest.fixture
def done(platform: EagerPlatform) -> str:
    """Run a batch to its end, and return the platform's id of it."""
    return platform.run(TEXTS)


# --- help and usage ------------------------------------------------------------------------------------------------


def commands(group: Any = None, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and of every group of them."""
    yield above
    for name, command in (group or typer.main.get_group(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_stands_at_every_level(cjtasks: Command, words: tuple[str, ...]) -> None:
    said = cjtasks(*words, "--help")
    assert (said.code, said.err) == (0, "")
    # The program's own name is taken from how Python was started.
    assert "Usage: " in said.out
    assert " ".join(words) in said.out.split("Usage: ", 1)[1].splitlines()[0]


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("batch", "no-such-command"),
        ("batch", "show"),
        ("batch", "list", "--limit", "0"),
        ("batch", "list", "--limit", "many"),
        ("batch", "recount"),
        ("batch", "recount", "1", "--all"),
        ("batch", "cancel", "1", "--reason", "none", "--version", "new"),
        ("dead-letters", "replay"),
        ("dead-letters", "show", "first"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(cjtasks: Command, words: tuple[str, ...]) -> None:
    said = cjtasks(*words)
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err
    assert "Error" in said.err


# --- looking -------------------------------------------------------------------------------------------------------


def test_batches_are_listed_newest_first(cjtasks: Command, platform: EagerPlatform, done: str) -> None:
    newer = platform.run(TEXTS)

    listed = cjtasks("batch", "list", "--json")

    assert (listed.code, [one["platform_id"] for one in listed.data]) == (0, [newer, done])
    assert [one["platform_id"] for one in cjtasks("batch", "list", "--json", "--limit", 1).data] == [newer]
    table = cjtasks("batch", "list")
    assert table.code == 0
    assert table.out.index(newer) < table.out.index(done)


def test_a_batch_is_shown_by_our_id_or_by_the_platforms(cjtasks: Command, platform: EagerPlatform, done: str) -> None:
    ours = platform.state(done).batch_id

    shown = cjtasks("batch", "show", done, "--json")

    assert (shown.data["batch"], shown.data["state"], shown.data["completed"]) == (ours, "COMPLETED", 12)
    assert shown.data == cjtasks("batch", "show", ours, "--json").data
    assert "COMPLETED" in cjtasks("batch", "show", ours).out


def test_results_are_the_published_ones(cjtasks: Command, platform: EagerPlatform, done: str) -> None:
    (result,) = [event.data for event in platform.events(done) if event.kind == "result"]
    published = {essay["essay_id"]: essay["bt_score"] for essay in result["essay_results"]}

    shown = cjtasks("batch", "results", done, "--json")

    assert {essay["id"]: essay["score"] for essay in shown.data} == published
    assert all(essay["comparisons"] == 6 for essay in shown.data)
    table = cjtasks("batch", "results", done).out
    best, worst = result["essay_results"][0]["essay_id"], result["essay_results"][-1]["essay_id"]
    assert table.index(best) < table.index(worst)


def test_results_say_in_words_how_sure_the_ranking_is(cjtasks: Command, platform: EagerPlatform) -> None:
    batch_id = platform.run({f"essay-{n}": "A thought. " * n for n in range(1, 9)})

    shown = cjtasks("batch", "results", batch_id, "--json").data

    assert [essay["rank"] for essay in shown] == list(range(1, 9))
    assert all(essay["rank_low"] <= essay["rank"] <= essay["rank_high"] for essay in shown)
    told = " ".join(cjtasks("batch", "results", batch_id).out.split())
    assert f"{shown[0]['rank_low']}\N{EN DASH}{shown[0]['rank_high']}" in told
    assert all(part in told for part in ("The differences", "Reliability is", "logits"))
    view = cjtasks("batch", "show", batch_id, "--json").data
    assert f"Reliability is {view['reliability']:.2f}" in told
    assert view["certainty"] in {"enough", "a_few_more", "not_enough"}


def test_results_are_written_as_a_page_with_the_same_scores(cjtasks: Command, done: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    best = cjtasks("batch", "results", done, "--json", "--report", page).data[0]
    told = page.read_text(encoding="utf-8")
    assert done in told
    assert f"1. {best['id']}: {best['score']:+.2f}" in told


def test_a_batch_without_a_comparison_yet_has_results_without_scores_and_no_page(
    cjtasks: Command, platform: EagerPlatform, tmp_path: Path
) -> None:
    with platform.runtime.database.transaction() as session:
        batch_id = batch_in(session, BatchStateEnum.WAITING_CALLBACKS).batch_id
    assert [essay["score"] for essay in cjtasks("batch", "results", batch_id, "--json").data] == [None] * 4
    assert cjtasks("batch", "results", batch_id).code == 0
    refused = cjtasks("batch", "results", batch_id, "--report", tmp_path / "page.html")
    assert_one_clear_line(refused, "nothing was compared yet")


def test_a_batch_is_explained(cjtasks: Command, platform: EagerPlatform) -> None:
    batch_id = waiting(platform).batch_id

    told = cjtasks("batch", "explain", batch_id, "--json")

    assert (told.code, told.data["state"], told.data["version"]) == (0, "WAITING_CALLBACKS", 1)
    assert "1 answers" in told.data["waits_for"][0]
    shown = cjtasks("batch", "explain", batch_id).out
    assert all(text in shown for text in (told.data["waits_for"][0], told.data["next_step"], "version 1"))


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["batch show", "batch results", "batch explain", "batch recount"])
@pytest.mark.usefixtures("platform")
def test_an_unknown_batch_is_named_on_one_line(cjtasks: Command, words: str) -> None:
    assert_one_clear_line(cjtasks(*words.split(), "unheard-of"), "there is no batch unheard-of")


@pytest.mark.parametrize("words", ["batch cancel", "batch retry"])
@pytest.mark.usefixtures("platform")
def test_no_unknown_batch_is_acted_on(cjtasks: Command, words: str) -> None:
    assert_one_clear_line(cjtasks(*words.split(), "77", "--reason", "none"), "there is no batch 77")


@pytest.mark.usefixtures("platform")
def test_an_unknown_dead_letter_is_named_on_one_line(cjtasks: Command) -> None:
    assert_one_clear_line(cjtasks("dead-letters", "show", 77), "there is no dead letter 77")
    assert_one_clear_line(cjtasks("dead-letters", "replay", 77), "there is no dead letter 77")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CJ_BATCH_TIMEOUT_HOURS", "0"),
        ("CJ_DATABASE_URL", "mysql://somewhere"),
        ("CJ_KAFKA_OPTIONS", "{"),
        ("CJ_MIN_SUCCESS_RATE_THRESHOLD", "80"),
    ],
)
def test_a_wrong_setting_is_named_on_one_line(
    cjtasks: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert_one_clear_line(cjtasks("batch", "list"), name)


@pytest.mark.parametrize("words", ["batch list", "batch show 1", "dead-letters list --json"])
def test_a_postgres_that_is_away_is_told_on_one_line(
    cjtasks: Command, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    port = free_port()
    monkeypatch.setenv("CJ_DATABASE_URL", f"postgresql://ada:secret@127.0.0.1:{port}/nowhere")
    said = cjtasks(*words.split())
    assert_one_clear_line(said, "Postgres: ", str(port))
    assert "secret" not in said.err


def test_a_database_without_our_tables_is_told_on_one_line(
    cjtasks: Command, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    monkeypatch.setenv("CJ_DATABASE_URL", postgres_url)
    assert_one_clear_line(cjtasks("batch", "list"), "Postgres: ", "does not exist")
