"""Each test breaks one part in the middle of a run and starts it again, as production's supervisor does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .checker import check_everything, check_requests
from .events import read_events, sent_again
from .platform import Platform, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

BATCHES = 8
MIDDLE = 20 * BATCHES
"""So many comparisons are judged when the part breaks: some of the first iteration, in which there are 48 a batch."""

UNRULY = {"latency": 1.0, "jitter": 0.9, "disorder": 0.5, "duplicate_rate": 0.1, "error_rate": 0.01}
SLOW_SECONDS = 8.0

GOES_ON_SECONDS = 60.0
ENDS_SECONDS = 280.0


@pytest.fixture(scope="module")
def running(start: Callable[[Setup], AbstractContextManager[Platform]]) -> Iterator[Platform]:
    with start(Setup(provider=UNRULY)) as started:
        yield started


def run_with(running: Platform, fault: Callable[[], None]) -> None:
    """Run batches, break something in the middle, and wait until work goes on and all of them have ended."""
    before = running.judged()
    running.ask(BATCHES)
    running.wait_for(lambda: running.judged() >= before + MIDDLE, "the middle of the run", ENDS_SECONDS)
    fault()
    broken_at = running.judged()
    assert running.live(), "the fault came too late to prove anything"
    running.wait_for(lambda: running.judged() > broken_at, "work goes on after the fault", GOES_ON_SECONDS)
    running.wait_for(running.is_at_rest, "all batches end", ENDS_SECONDS)


def check(running: Platform) -> list[str]:
    """Check all that was ever asked of this platform; return what the last batches' events were sent again."""
    events = read_events(running.settings)
    check_everything(running.database, events)
    check_requests(running.database, running.stats(), running.lost_in_the_air)
    last = {request.batch_id for request in running.asked[-BATCHES:]}
    return sent_again(event for event in events if event.data["entity_id"] in last)


def crash(running: Platform, name: str) -> None:
    running.kill(name)
    running.here.supervisor.restart(name)


@pytest.mark.timeout(360)
def test_a_worker_that_is_killed_with_its_child_loses_and_repeats_nothing(running: Platform) -> None:
    run_with(running, lambda: crash(running, "worker"))
    assert check(running) == []


@pytest.mark.timeout(360)
def test_a_worker_whose_child_is_killed_goes_on_with_another(running: Platform) -> None:
    run_with(running, lambda: running.kill_children("worker"))
    assert check(running) == []


@pytest.mark.timeout(360)
def test_a_consumer_that_is_killed_reads_every_message_once(running: Platform) -> None:
    run_with(running, lambda: crash(running, "consumer"))
    assert check(running) == []


@pytest.mark.timeout(360)
def test_a_redis_that_is_wiped_takes_nothing_with_it(running: Platform) -> None:
    run_with(running, running.wipe_redis)
    assert check(running) == []


# What was being prepared or sent is taken up again when its lease ends, so this run lasts two minutes longer.
@pytest.mark.timeout(420)
def test_a_submitter_that_is_killed_asks_again_only_what_it_had_in_the_air(running: Platform) -> None:
    def crash_while_it_sends() -> None:
        # A request that came after the change hangs, and its callback cannot overtake the kill.
        running.provider_becomes(accept_delay=SLOW_SECONDS, latency=SLOW_SECONDS)
        before = running.stats()["requests"]
        running.wait_for(lambda: running.stats()["requests"] > before, "something is sent", GOES_ON_SECONDS)
        running.kill("submitter")
        assert running.being_sent(), "the kill came when nothing was in the air"
        running.here.supervisor.restart("submitter")
        running.provider_becomes(accept_delay=0.0, latency=UNRULY["latency"])

    run_with(running, crash_while_it_sends)
    assert check(running) == []


@pytest.mark.timeout(360)
def test_a_relay_that_is_killed_may_send_an_event_again_but_under_the_same_id(running: Platform) -> None:
    before = running.published()
    running.ask(BATCHES)
    running.wait_for(lambda: running.published() > before, "the first batch ends", ENDS_SECONDS)
    crash(running, "relay")
    broken_at = running.published()
    running.wait_for(lambda: running.published() > broken_at, "work goes on after the fault", GOES_ON_SECONDS)
    running.wait_for(running.is_at_rest, "all batches end", ENDS_SECONDS)
    check(running)
