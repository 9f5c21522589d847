"""The consumer that records what it polled in its own process: what the way through Celery is compared with."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from cjtasks import tasks
from cjtasks.clients import kafka
from cjtasks.ops import logging
from cjtasks.runtime import runtime
from cjtasks.settings import settings
from cjtasks.store import inbox
from consumers.loop import Loop

if TYPE_CHECKING:
    from cjtasks.domain.states import Bell


class InlineLoop(Loop):
    """Does the work of the bell of the inbox at once, in the same process, where the product rings it."""

    def _ring(self, wanted: list[Bell], *, where_short: bool = False) -> None:  # noqa: ARG002  The same signature.
        here = runtime()
        tasks.work_inbox_once(here)
        with here.database.transaction() as session:
            behind = inbox.undone(session, here.clock())
        for _ in range(behind):
            tasks.work_inbox_once(here)


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    logging.configure(settings().LOG_LEVEL, "inline")
    InlineLoop(runtime(), kafka.consumer(settings()), stop).run()


if __name__ == "__main__":
    main()
