from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .checker import check_everything, check_requests
from .events import check_shape, closing, read_events, sent_again
from .platform import Platform, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

BATCHES = 50


@pytest.fixture(scope="module")
def running(start: Callable[[Setup], AbstractContextManager[Platform]]) -> Iterator[Platform]:
    unruly = {"latency": 0.5, "jitter": 0.4, "disorder": 0.5, "duplicate_rate": 0.1, "error_rate": 0.01}
    with start(Setup(copies={"worker": 2}, provider=unruly)) as started:
        yield started


@pytest.mark.timeout(300)
def test_fifty_batches_at_once_with_unruly_callbacks_end_with_one_of_each_event(running: Platform) -> None:
    pids = {running.here.supervisor.pid(name) for name in ("worker", "worker-2")}
    assert len(pids) == 2
    running.ask(BATCHES)
    running.wait_for(running.is_at_rest, "all batches end", 240)
    events = read_events(running.settings)
    stats = running.stats()

    assert stats["duplicates"] > 0
    assert stats["errors"] > 0
    assert sent_again(events) == []
    assert len(closing(events)) == 3 * BATCHES
    for event in events:
        check_shape(event)
    check_everything(running.database, events)
    check_requests(running.database, stats)
