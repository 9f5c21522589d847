"""Ringing: one small Celery message that says that there is work. It may be lost; the sweep rings again."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, cast

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from cjtasks.celery import TASKS, app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kombu import Producer

    from cjtasks.domain.states import Bell

LONGEST_QUEUE = 100
"""The sweep rings no more into a queue that is already longer than this."""

ENOUGH = 20
"""So many bells that name no batch may wait in a queue for each process that rings: each was not heard yet and says
the same as one more."""

log = structlog.get_logger()

_places: Counter[str] = Counter()
"""How many more bells that name no batch go into each queue before its length is asked again."""

_waiting: deque[Bell] = deque()
_draining = False


def ring(bells: Iterable[Bell]) -> bool:
    """Ring each bell once; False when Redis did not take them, which loses nothing but time."""
    unique = list(dict.fromkeys(bells))
    if app.conf.task_always_eager:
        _drain(unique)
        return True
    try:
        with app.producer_pool.acquire(block=True, timeout=2) as producer:
            for bell in unique:
                if bell.batch_id is not None or _has_place(TASKS[bell.work][1], producer):
                    _send(bell, producer)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("bell not rung", error=type(error).__name__)
        return False
    return True


def _has_place(queue: str, producer: Producer) -> bool:
    """Take one of the places that the queue had when it was asked last: to ask each time takes as long as to ring."""
    if not _places[queue]:
        _places[queue] = max(0, ENOUGH - _length(queue, producer))
    if not _places[queue]:
        return False
    _places[queue] -= 1
    return True


def _send(bell: Bell, producer: Producer) -> None:
    name, queue = TASKS[bell.work]
    args = () if bell.batch_id is None else (bell.batch_id,)
    # What people see in Flower: an id that they can look up, never a text.
    shown = f"batch {bell.batch_id}" if args else bell.work.value
    app.send_task(
        name, args, queue=queue, producer=producer, retry=False, argsrepr=shown, kwargsrepr="", ignore_result=True
    )


def _drain(bells: Iterable[Bell]) -> None:
    """Run what is rung, in the outermost call only, so that no task runs inside another's transaction."""
    global _draining  # noqa: PLW0603 - One process has one queue of eager bells.
    _waiting.extend(bells)
    if _draining:
        return
    _draining = True
    # Nobody but a worker loads the tasks by itself.
    app.loader.import_default_modules()
    try:
        while _waiting:
            bell = _waiting.popleft()
            name, _ = TASKS[bell.work]
            app.tasks[name].apply_async(() if bell.batch_id is None else (bell.batch_id,))
    finally:
        _waiting.clear()
        _draining = False


def ring_where_short(bells: Iterable[Bell]) -> bool:
    """Ring for the sweep: not into a queue that is long already, because its bells will do."""
    wanted = list(bells)
    if not wanted or app.conf.task_always_eager:
        return ring(wanted)
    try:
        lengths = queue_lengths({TASKS[bell.work][1] for bell in wanted})
    except (OperationalError, RedisError, OSError) as error:
        log.warning("queues not read", error=type(error).__name__)
        return False
    kept, places = [], Counter({queue: LONGEST_QUEUE - length for queue, length in lengths.items()})
    for bell in wanted:
        queue = TASKS[bell.work][1]
        if places[queue] > 0:
            places[queue] -= 1
            kept.append(bell)
    return _ring_all(kept)


def _ring_all(bells: list[Bell]) -> bool:
    """Ring the same bell as often as it is listed: several workers may take inbox rows at once."""
    return all(ring([bell]) for bell in bells) if bells else True


def queue_lengths(queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages wait in each queue."""
    with app.producer_pool.acquire(block=True, timeout=2) as producer:
        return {queue: _length(queue, producer) for queue in queues}


def _length(queue: str, producer: Producer) -> int:
    return int(cast("Any", producer.channel).client.llen(queue))
