"""Postgres, Valkey and Kafka together, started here unless the environment names them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cjtasks.dev.kafka import broker_available, kafka, mock_kafka
from cjtasks.dev.postgres import postgres
from cjtasks.dev.servers import home
from cjtasks.dev.valkey import valkey
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Stack", "home", "stack"]

DATABASE_URL = "CJ_DATABASE_URL"
REDIS_URL = "CJ_REDIS_URL"
KAFKA_BOOTSTRAP_SERVERS = "CJ_KAFKA_BOOTSTRAP_SERVERS"


@dataclass(frozen=True)
class Stack:
    """Where the three services answer; `folder` holds the data and the logs of those started here."""

    database_url: str
    redis_url: str
    kafka_bootstrap_servers: str
    kafka_is_real: bool
    folder: Path

    def environment(self) -> dict[str, str]:
        """Return the variables by which every process of ours finds the services."""
        return {
            DATABASE_URL: self.database_url,
            REDIS_URL: self.redis_url,
            KAFKA_BOOTSTRAP_SERVERS: self.kafka_bootstrap_servers,
        }


@contextmanager
def stack(folder: Path, *, durable: bool, need_real_kafka: bool = False) -> Iterator[Stack]:
    """Run what the environment does not name, all at the same time, until the block ends.

    `durable` is for data that are kept: what runs for long may take longer to start.
    Where no real broker can run, the mock stands in unless `need_real_kafka`. Raises Misconfigured if a
    service does not start, once the others have been stopped.
    """
    kafka_is_real = _real_kafka(need_real_kafka=need_real_kafka)
    with ExitStack() as running:
        # Leaving the pool waits for every start, so that whatever came up is stopped even if another failed.
        with ThreadPoolExecutor(3, "service") as pool:
            starts = [
                pool.submit(running.enter_context, service)
                for service in (
                    _named(DATABASE_URL) or postgres(folder / "postgres", durable=durable),
                    _named(REDIS_URL) or valkey(folder / "valkey"),
                    _named(KAFKA_BOOTSTRAP_SERVERS)
                    or (kafka(folder / "kafka", for_long=durable) if kafka_is_real else mock_kafka()),
                )
            ]
        database_url, redis_url, servers = (start.result() for start in starts)
        yield Stack(database_url, redis_url, servers, kafka_is_real, folder)


def _named(variable: str) -> AbstractContextManager[str] | None:
    """Return the service that the environment names, which is not ours to start or stop."""
    value = os.environ.get(variable)
    return nullcontext(value) if value else None


def _real_kafka(*, need_real_kafka: bool) -> bool:
    if os.environ.get(KAFKA_BOOTSTRAP_SERVERS):
        return True
    reason = broker_available()
    if reason is not None and need_real_kafka:
        raise Misconfigured.of(reason, operation="start_kafka")
    return reason is None
