"""After an absence the consumer says that it caught up only when what piled up had time to be worked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

from cjtasks.steps.monitor import BEHIND
from tests.integration.consumers.test_positions import Watched

if TYPE_CHECKING:
    from tests.integration.consumers.pipeline import Pipeline

ABSENCE = timedelta(hours=5)
LOOK = 5.0


def come_back(watched: Watched) -> None:
    """Lose the partition, and get it back after the absence."""
    partition = TopicPartition(watched.pipeline.callbacks, 0)
    watched.positions.forget([partition])
    watched.clock.advance(ABSENCE)
    watched.positions.assign(watched.consumer, [partition])


def looks_until_fresh(watched: Watched) -> int:
    for looks in range(1, 40):
        if watched.look_after(LOOK) == LOOK:
            return looks
    raise AssertionError("it is never said again")


def test_what_piled_up_is_given_a_minute_before_deadlines_may_act(pipeline: Pipeline) -> None:
    watched = Watched(pipeline)
    assert watched.look_after(LOOK) == LOOK
    pipeline.write(pipeline.callbacks, 3, partition=0)
    come_back(watched)
    assert watched.look_after(LOOK) == ABSENCE.total_seconds() + 2 * LOOK, "it lags"

    watched.reach(3)

    assert LOOK * looks_until_fresh(watched) >= BEHIND.total_seconds()
    assert [watched.look_after(LOOK) for _ in range(3)] == [LOOK] * 3


def test_a_short_absence_needs_no_such_pause(pipeline: Pipeline) -> None:
    watched = Watched(pipeline)
    assert watched.look_after(LOOK) == LOOK
    pipeline.write(pipeline.callbacks, 3, partition=0)
    watched.look_after(LOOK)
    watched.reach(3)

    assert looks_until_fresh(watched) <= 2
