"""What operators do with the `cjtasks` command, to batches and to dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
from sqlalchemy import select, update

from cjtasks.celery import SUBMISSIONS
from cjtasks.contracts.topics import REQUEST_TOPIC
from cjtasks.dev.requests import BatchRequest
from cjtasks.dev.servers import free_port
from cjtasks.domain.states import BatchStateEnum
from cjtasks.store import dead_letters
from cjtasks.store.inbox import Message
from cjtasks.store.models import CJBatchState, CJBatchUpload, DeadLetterRow, InboxRow, OperatorAction
from tests.factories import NOW
from tests.integration.command import Command, Said, assert_one_clear_line, in_this_process, process, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def state_of(platform: EagerPlatform, batch_id: int) -> CJBatchState:
    with platform.runtime.database.transaction() as session:
        return session.get_one(CJBatchState, batch_id)


def actions(platform: EagerPlatform) -> list[tuple[str, str, str]]:
    with platform.runtime.database.transaction() as session:
        rows = session.scalars(select(OperatorAction).order_by(OperatorAction.id))
        return [(row.action, row.operator, row.reason) for row in rows]


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


# --- as a process of its own ---------------------------------------------------------------------------------------


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
