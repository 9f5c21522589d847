"""We were away for longer than every deadline while answers piled up: nothing is asked twice, and no batch fails."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cjtasks import bells
from cjtasks.domain.states import BatchStateEnum
from cjtasks.steps import monitor, sweep
from cjtasks.store.inbox import Kind
from tests.checks import assert_consistent

if TYPE_CHECKING:
    from cjtasks.testing import EagerPlatform

AWAY = timedelta(hours=5)
TEXTS = {f"essay-{n}": "A thought. " * n for n in range(1, 9)}


def batches_that_wait_while_we_are_away(platform: EagerPlatform) -> list[str]:
    """Send every comparison of three batches, let the provider answer all, and take none of the answers."""
    batch_ids = [platform.request(TEXTS, max_comparisons=24) for _ in range(3)]
    platform._turn()
    while platform.provider.stats()["pending"]:
        time.sleep(0.002)
    assert platform.provider.stats()["callbacks"] == 72
    platform.clock.advance(AWAY)
    return batch_ids


def let_deadlines_act(platform: EagerPlatform) -> None:
    """Do what beat does: sweep twice, a minute apart, and look after stale batches."""
    for _ in range(2):
        bells.ring(sweep.sweep(platform.runtime))
        bells.ring(monitor.monitor(platform.runtime))
        platform.clock.advance(timedelta(seconds=61))


def store(platform: EagerPlatform, count: int) -> None:
    """Bring the oldest answers into the inbox, as the consumer does, and work none of them."""
    for _ in range(count):
        platform.deliver(Kind.CALLBACK, platform._callbacks.pop(0))


def all_as_before(platform: EagerPlatform, batch_ids: list[str]) -> None:
    states = [platform.state(batch_id) for batch_id in batch_ids]
    assert {row.state for row in states} == {BatchStateEnum.WAITING_CALLBACKS}
    assert platform.provider.stats()["requests"] == 72
    assert platform.events() == []


@pytest.mark.parametrize("stored", [0, 36, 72], ids=["none", "half", "all"])
def test_no_deadline_acts_while_answers_lie_undelivered_or_undone(eager_cj: EagerPlatform, stored: int) -> None:
    batch_ids = batches_that_wait_while_we_are_away(eager_cj)
    store(eager_cj, stored)
    if stored == 72:
        # The consumer has all of them and says so; what is behind now are the workers.
        eager_cj.clock.advance(timedelta(seconds=61))
        eager_cj._caught_up()
        bells.ring(monitor.monitor(eager_cj.runtime))
        all_as_before(eager_cj, batch_ids)
    else:
        let_deadlines_act(eager_cj)
        all_as_before(eager_cj, batch_ids)

    eager_cj.pump()

    stats = eager_cj.provider.stats()
    assert (stats["accepted"], stats["asked_again"]) == (72, 0)
    for batch_id in batch_ids:
        row = eager_cj.state(batch_id)
        with eager_cj.runtime.database.transaction() as session:
            assert_consistent(session, row.batch_id)
        assert (row.state, row.completed_comparisons) == (BatchStateEnum.COMPLETED, 24)
        assert {pair.attempt for pair in row.batch_upload.comparison_pairs} == {1}
        kinds = [event.kind for event in eager_cj.events(batch_id) if event.kind != "partial"]
        assert kinds == ["completed", "result", "consumption"]


def test_deadlines_act_again_once_we_are_not_behind(eager_cj: EagerPlatform) -> None:
    batch_ids = batches_that_wait_while_we_are_away(eager_cj)
    eager_cj._callbacks.clear()
    eager_cj._caught_up()
    bells.ring(monitor.monitor(eager_cj.runtime))

    assert {eager_cj.state(batch_id).state for batch_id in batch_ids} == {BatchStateEnum.FAILED}
