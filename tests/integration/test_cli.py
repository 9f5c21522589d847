"""The `cjtasks` command as people and scripts use it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import structlog
import typer
from sqlalchemy import select, update

from cjtasks.celery import SUBMISSIONS
from cjtasks.cli import app, main
from cjtasks.contracts.topics import REQUEST_TOPIC
from cjtasks.dev.requests import BatchRequest
from cjtasks.dev.servers import free_port
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.store import dead_letters
from cjtasks.store.inbox import Message
from cjtasks.store.models import CJBatchState, CJBatchUpload, DeadLetterRow, InboxRow, OperatorAction
from tests.factories import NOW, batch_in, comparisons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cjtasks.testing import EagerPlatform

TEXTS = {f"essay-{n}": "A thought. " * n for n in range(1, 5)}
WAITING = BatchStateEnum.WAITING_CALLBACKS


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


if TYPE_CHECKING:
    Command = Callable[..., Said]


@pytest.fixture
def cjtasks(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run the command in this process, as its script does; nothing is remembered between two runs but the runtime."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: object) -> Said:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["cjtasks", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return Said(int(ended.value.code or 0), printed.out, printed.err)

    yield run
    structlog.reset_defaults()


@pytest.fixture
def platform(eager_cj: EagerPlatform, database_url: str, monkeypatch: pytest.MonkeyPatch) -> EagerPlatform:
    """Give a platform on whose database the command works."""
    monkeypatch.setenv("CJ_DATABASE_URL", database_url)
    return eager_cj


@pytest.fixture
def done(platform: EagerPlatform) -> str:
    """Run a batch to its end, and return the platform's id of it."""
    return platform.run(TEXTS)


def waiting(platform: EagerPlatform, failed: int = 1) -> CJBatchState:
    """Write a batch that waits for one answer and has failed comparisons."""
    with platform.runtime.database.transaction() as session:
        state = batch_in(session, WAITING)
        comparisons(session, state, 8, ComparisonStatus.COMPLETED)
        comparisons(session, state, failed, ComparisonStatus.FAILED)
        comparisons(session, state, 1, ComparisonStatus.IN_FLIGHT)
        return state


def state_of(platform: EagerPlatform, batch_id: int) -> CJBatchState:
    with platform.runtime.database.transaction() as session:
        return session.get_one(CJBatchState, batch_id)


def actions(platform: EagerPlatform) -> list[tuple[str, str, str]]:
    with platform.runtime.database.transaction() as session:
        rows = session.scalars(select(OperatorAction).order_by(OperatorAction.id))
        return [(row.action, row.operator, row.reason) for row in rows]


def assert_one_clear_line(said: Said, *parts: str) -> None:
    assert said.code == 1
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert all(part in said.err for part in ("cjtasks: ", *parts))
    assert not any(word in said.err for word in ("Traceback", "SELECT", "sqlalche", "psycopg2", "UPDATE"))


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


def test_a_batch_is_explained(cjtasks: Command, platform: EagerPlatform) -> None:
    batch_id = waiting(platform).batch_id

    told = cjtasks("batch", "explain", batch_id, "--json")

    assert (told.code, told.data["state"], told.data["version"]) == (0, "WAITING_CALLBACKS", 1)
    assert "1 answers" in told.data["waits_for"][0]
    shown = cjtasks("batch", "explain", batch_id).out
    assert all(text in shown for text in (told.data["waits_for"][0], told.data["next_step"], "version 1"))


# --- acting --------------------------------------------------------------------------------------------------------


def test_a_batch_is_cancelled_once(cjtasks: Command, platform: EagerPlatform) -> None:
    batch_id = waiting(platform).batch_id
    words = ("batch", "cancel", batch_id, "--reason", "a slip", "--operator", "ada")

    said = cjtasks(*words)

    assert (said.code, said.out) == (0, f"batch {batch_id} is cancelled\n")
    assert actions(platform) == [("cancel", "ada", "a slip")]
    assert_one_clear_line(cjtasks(*words), f"batch {batch_id} is CANCELLED already")


def test_a_batch_that_changed_since_it_was_looked_at_is_not_touched(cjtasks: Command, platform: EagerPlatform) -> None:
    batch_id = waiting(platform).batch_id
    version = cjtasks("batch", "explain", batch_id, "--json").data["version"]
    assert cjtasks("batch", "retry", batch_id, "--reason", "first", "--version", version).code == 0

    said = cjtasks("batch", "cancel", batch_id, "--reason", "second", "--version", version)

    assert_one_clear_line(said, "changed since you looked")
    assert [action[0] for action in actions(platform)] == ["retry"]


def test_a_failed_batch_is_retried_and_completes(cjtasks: Command, platform: EagerPlatform) -> None:
    platform.provider.change({"refuse_rate": 1.0, "refuse_status": 401})
    failed = platform.run(TEXTS)
    assert platform.state(failed).state is BatchStateEnum.FAILED
    platform.provider.change({"refuse_rate": 0.0})

    said = cjtasks("batch", "retry", failed, "--reason", "the key is mended")
    platform.pump()

    assert (said.code, "asks its failed comparisons again" in said.out) == (0, True)
    assert cjtasks("batch", "show", failed, "--json").data["state"] == "COMPLETED"
    assert [event.kind for event in platform.events(failed)] == ["failed", "completed", "result", "consumption"]


def test_a_recount_finds_nothing_or_mends_it_and_ends_with_1(
    cjtasks: Command, platform: EagerPlatform, done: str
) -> None:
    batch_id = waiting(platform).batch_id
    assert cjtasks("batch", "recount", "--all") == Said(0, "0 batches differed\n", "")
    assert cjtasks("batch", "recount", done).code == 0
    with platform.runtime.database.transaction() as session:
        session.execute(update(CJBatchState).where(CJBatchState.batch_id == batch_id).values(completed_comparisons=7))

    said = cjtasks("batch", "recount", "--all")

    assert (said.code, said.out) == (1, f"batch {batch_id}: completed 7 became 8\n1 batches differed\n")
    assert state_of(platform, batch_id).completed_comparisons == 8
    assert cjtasks("batch", "recount", batch_id).code == 0


# --- dead letters --------------------------------------------------------------------------------------------------


def set_aside(platform: EagerPlatform, payload: bytes, reason: str) -> int:
    with platform.runtime.database.transaction() as session:
        dead_letters.set_aside(session, Message(REQUEST_TOPIC, 1, 7, payload, NOW), reason, "a detail")
    with platform.runtime.database.transaction() as session:
        return max(session.scalars(select(DeadLetterRow.id)))


def test_dead_letters_are_listed_without_and_shown_with_their_content(
    cjtasks: Command, platform: EagerPlatform
) -> None:
    letter = set_aside(platform, b"\xff a secret", "UNREADABLE_REQUEST")
    other = set_aside(platform, b"", "EMPTY_MESSAGE")

    listed = cjtasks("dead-letters", "list", "--json")

    assert [(one["id"], one["reason"], one["bytes"]) for one in listed.data] == [
        (letter, "UNREADABLE_REQUEST", 10),
        (other, "EMPTY_MESSAGE", 0),
    ]
    assert "secret" not in listed.out + cjtasks("dead-letters", "list").out
    assert [one["id"] for one in cjtasks("dead-letters", "list", "--reason", "EMPTY_MESSAGE", "--json").data] == [other]
    assert cjtasks("dead-letters", "list", "--topic", "another", "--json").data == []
    shown = cjtasks("dead-letters", "show", letter, "--json")
    assert (shown.data["payload"], shown.data["offset"]) == ("\ufffd a secret", 7)
    assert "a secret" in cjtasks("dead-letters", "show", letter).out


def test_a_dead_letter_is_replayed_but_not_by_a_dry_run(cjtasks: Command, platform: EagerPlatform) -> None:
    letter = set_aside(platform, BatchRequest({"a": "1", "b": "2"}).payload(NOW), "PROCESSING_FAILED")
    words = ("dead-letters", "replay", "--reason", "PROCESSING_FAILED")

    assert cjtasks(*words, "--dry-run") == Said(0, f"would replay 1: {letter}\n", "")
    with platform.runtime.database.transaction() as session:
        assert session.scalars(select(InboxRow)).all() == []

    said = cjtasks(*words)

    assert (said.code, said.out.splitlines()[-1]) == (0, f"replayed 1: {letter}")
    with platform.runtime.database.transaction() as session:
        assert len(session.scalars(select(CJBatchUpload)).all()) == 1
    assert cjtasks("dead-letters", "list", "--json").data == []
    assert cjtasks(*words).out == "replayed 0\n"


def test_a_truncated_dead_letter_is_not_replayed(cjtasks: Command, platform: EagerPlatform) -> None:
    letter = set_aside(platform, b"only the beginning", "TOO_LARGE")
    assert_one_clear_line(cjtasks("dead-letters", "replay", letter), f"dead letter {letter} is TOO_LARGE")
    assert_one_clear_line(cjtasks("dead-letters", "replay", letter, "--dry-run"), f"dead letter {letter} is TOO_LARGE")


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


# --- as a process of its own ---------------------------------------------------------------------------------------


def process(*args: object, **environment: str) -> Said:
    script = Path(sys.executable).with_name("cjtasks")
    run = subprocess.run(  # noqa: S603 - The words are this test's own.
        [script, *map(str, args)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Said(run.returncode, run.stdout, run.stderr)


def test_a_retry_rings_for_a_submitter(platform: EagerPlatform, database_url: str, redis_url: str) -> None:
    batch_id = waiting(platform).batch_id

    said = process("batch", "retry", batch_id, "--reason", "none", CJ_DATABASE_URL=database_url, CJ_REDIS_URL=redis_url)

    assert (said.code, said.out) == (0, f"batch {batch_id} asks its failed comparisons again\n")
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen(f"cjtasks:{SUBMISSIONS}") == 1


def test_a_retry_is_done_though_redis_is_away(platform: EagerPlatform, database_url: str) -> None:
    batch_id = waiting(platform).batch_id

    said = process(
        "batch",
        "retry",
        batch_id,
        "--reason",
        "none",
        CJ_DATABASE_URL=database_url,
        CJ_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
    )

    assert (said.code, said.out) == (0, f"batch {batch_id} asks its failed comparisons again\n")
    assert "bell not rung" in said.err
    assert "Traceback" not in said.err
    assert state_of(platform, batch_id).failed_comparisons == 0


def test_json_goes_to_stdout_and_nothing_else_does(platform: EagerPlatform, database_url: str) -> None:
    batch_id = waiting(platform).batch_id
    said = process("batch", "show", batch_id, "--json", CJ_DATABASE_URL=database_url)
    assert (said.code, said.data["batch"], said.err) == (0, batch_id, "")
