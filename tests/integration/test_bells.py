"""Bells in a real Valkey: what a bell looks like, when none is rung, and that none is needed."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import redis

from cjtasks import bells
from cjtasks.celery import ANSWERS, BATCHES, SUBMISSIONS, TASKS
from cjtasks.dev.servers import free_port
from cjtasks.domain.states import Bell, Work
from tests.integration.ringing import point_at, ringing_at

if TYPE_CHECKING:
    from collections.abc import Iterator

INBOX = Bell(Work.INBOX)


@pytest.fixture
def ringing(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client of the Redis that bells go to; it shows the keys as they are there."""
    with ringing_at(redis_url), closing(redis.Redis.from_url(redis_url)) as client:
        yield client


def length(client: redis.Redis, queue: str) -> int:
    found = client.llen(f"cjtasks:{queue}")
    assert isinstance(found, int)
    return found


def messages(client: redis.Redis, queue: str) -> list[dict[str, Any]]:
    """Return the waiting messages, oldest first."""
    found = client.lrange(f"cjtasks:{queue}", 0, -1)
    assert isinstance(found, list)
    return [json.loads(message) for message in reversed(found)]


def test_a_bell_is_a_task_that_people_can_look_up_by_its_batch(ringing: redis.Redis) -> None:
    assert bells.ring([Bell(Work.SCORE, 42)])
    (message,) = messages(ringing, BATCHES)
    assert message["headers"]["task"] == "cjtasks.score"
    assert message["headers"]["argsrepr"] == "batch 42"
    assert message["headers"]["kwargsrepr"] == ""
    assert message["content-type"] == "application/json"
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[42], {}]


def test_a_bell_without_a_batch_carries_nothing(ringing: redis.Redis) -> None:
    assert bells.ring([INBOX])
    (message,) = messages(ringing, ANSWERS)
    assert message["headers"]["argsrepr"] == "inbox"
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[], {}]


@pytest.mark.parametrize("work", list(Work))
def test_every_bell_lands_in_the_queue_of_its_work(ringing: redis.Redis, work: Work) -> None:
    assert bells.ring([Bell(work, None if work in {Work.INBOX, Work.SUBMIT} else 7)])
    name, queue = TASKS[work]
    assert [message["headers"]["task"] for message in messages(ringing, queue)] == [name]
    assert ringing.keys("cjtasks:*") == [f"cjtasks:{queue}".encode()], "a bell leaves nothing else behind"


def test_the_same_bell_is_rung_once(ringing: redis.Redis) -> None:
    assert bells.ring([INBOX, Bell(Work.SCORE, 1), INBOX, Bell(Work.SCORE, 2), Bell(Work.SCORE, 1)])
    assert length(ringing, ANSWERS) == 1
    assert [message["headers"]["argsrepr"] for message in messages(ringing, BATCHES)] == ["batch 1", "batch 2"]


@pytest.mark.usefixtures("ringing")
def test_ringing_no_bell_asks_redis_nothing() -> None:
    point_at(f"redis://127.0.0.1:{free_port()}/0")
    assert bells.ring([])
    assert bells.ring_where_short([])


def test_the_sweep_rings_as_often_as_it_wants_where_the_queue_is_short(ringing: redis.Redis) -> None:
    assert bells.ring_where_short([INBOX] * 3 + [Bell(Work.SUBMIT)])
    assert (length(ringing, ANSWERS), length(ringing, SUBMISSIONS)) == (3, 1)


def test_the_sweep_rings_nothing_into_a_long_queue_but_into_the_others(ringing: redis.Redis) -> None:
    ringing.rpush(f"cjtasks:{ANSWERS}", *(["{}"] * (bells.LONGEST_QUEUE + 1)))
    assert bells.ring_where_short([INBOX, Bell(Work.SUBMIT)])
    assert (length(ringing, ANSWERS), length(ringing, SUBMISSIONS)) == (101, 1)


def test_the_sweep_does_not_itself_make_a_queue_long(ringing: redis.Redis) -> None:
    assert bells.ring_where_short([Bell(Work.SCORE, number) for number in range(150)])
    assert length(ringing, BATCHES) == bells.LONGEST_QUEUE


def test_a_bell_that_names_no_batch_is_not_rung_where_enough_of_them_wait_to_be_heard(ringing: redis.Redis) -> None:
    for _ in range(bells.ENOUGH + 5):
        assert bells.ring([INBOX, Bell(Work.SUBMIT)])
    assert (length(ringing, ANSWERS), length(ringing, SUBMISSIONS)) == (bells.ENOUGH, bells.ENOUGH)


def test_a_bell_that_names_a_batch_is_rung_however_many_wait(ringing: redis.Redis) -> None:
    assert bells.ring([Bell(Work.SCORE, number) for number in range(bells.ENOUGH + 5)])
    assert length(ringing, BATCHES) == bells.ENOUGH + 5


@pytest.mark.usefixtures("ringing")
def test_the_lengths_of_queues_are_told() -> None:
    bells.ring([Bell(Work.SCORE, 1), Bell(Work.ADVANCE, 2)])
    assert bells.queue_lengths([BATCHES, ANSWERS]) == {BATCHES: 2, ANSWERS: 0}


@pytest.mark.timeout(30)
@pytest.mark.usefixtures("ringing")
def test_at_a_closed_port_ringing_fails_soon_and_raises_nothing() -> None:
    point_at(f"redis://127.0.0.1:{free_port()}/0")
    for _ in range(3):
        assert not bells.ring([INBOX])
        assert not bells.ring_where_short([INBOX])


def test_a_wiped_redis_takes_bells_from_the_same_process(ringing: redis.Redis) -> None:
    assert bells.ring([INBOX])
    ringing.flushall()
    assert bells.ring([INBOX])
    assert bells.ring_where_short([Bell(Work.SUBMIT)])
    assert (length(ringing, ANSWERS), length(ringing, SUBMISSIONS)) == (1, 1)


def test_a_redis_that_dropped_our_connections_takes_bells_again(ringing: redis.Redis) -> None:
    assert bells.ring([INBOX])
    ringing.client_kill_filter(_type="normal", skipme=True)
    assert bells.ring([INBOX]) or bells.ring([INBOX]), "the first may find out"
    assert length(ringing, ANSWERS) >= 2
