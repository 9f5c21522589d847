"""What every Celery worker process does besides tasks: survive a restart of Redis, log, and start clean."""

from __future__ import annotations

from typing import Any

import structlog
from celery.worker.consumer import Consumer

log = structlog.get_logger()


class GuardedConsumer(Consumer):
    """Celery's consumer, kept alive where closing a dead connection raises.

    With an unacknowledged message Celery 5.7 tries to give it back over the connection that it has just
    dropped; the AttributeError from there ends the worker, or leaves it alive and deaf.
    """

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - Whatever closing raises, the next loop opens a new connection.
            log.warning("broker connection dropped", error=type(error).__name__)
            self.connection: Any = None
