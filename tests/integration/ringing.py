"""Where this process rings its bells: a test brings its own Redis, or none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kombu import pools

from cjtasks.celery import app

if TYPE_CHECKING:
    from collections.abc import Iterator


def point_at(url: str) -> None:
    """Ring at another Redis from now on; connections to the last one are dropped."""
    pools.reset()
    # What a forked child does too: the app takes its pools anew.
    app._after_fork()  # type: ignore[attr-defined]
    app.conf.update(broker_url=url, broker_write_url=url)


@contextmanager
def ringing_at(url: str) -> Iterator[None]:
    before = app.conf.broker_url
    point_at(url)
    yield
    point_at(before)
