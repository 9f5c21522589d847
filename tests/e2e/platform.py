"""The rest of the platform, as a running cjtasks meets it: it asks for batches, watches, and breaks things."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import redis
import requests
from confluent_kafka import Producer
from sqlalchemy import func, select

from cjtasks.dev.cluster import Cluster, Wanted, cluster
from cjtasks.dev.demo_essays import demo_assignment, demo_essays
from cjtasks.dev.processes import folder_sink
from cjtasks.dev.requests import BatchRequest
from cjtasks.dev.servers import listens
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import TERMINAL
from cjtasks.steps.submit import AT_ONCE
from cjtasks.store.models import CJBatchState, ComparisonPair, InboxRow, KafkaPosition, OutboxEvent
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"
STARTING_SECONDS = 120.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Setup:
    """How many of a process to run, and how the fake provider behaves."""

    copies: Mapping[str, int] = field(default_factory=dict)
    provider: Mapping[str, float] = field(default_factory=dict)


class Platform:
    """One cluster, its database and its logs; `asked` holds every request that was sent to it.

    `lost_in_the_air` is how many requests to the provider the killed submitters may have been sending.
    """

    def __init__(self, here: Cluster, logs: Path) -> None:
        self.here = here
        self.logs = logs
        self.settings = here.settings()
        self.database = Database(self.settings.DATABASE_URL)
        self.asked: list[BatchRequest] = []
        self.lost_in_the_air = 0

    def ask(self, batches: int, essays: int = 12) -> None:
        """Store the texts and publish all requests at once."""
        prompt = self._store(demo_assignment())
        texts = {name: self._store(text) for name, text in islice(demo_essays().items(), essays)}
        wanted = [BatchRequest(texts, prompt) for _ in range(batches)]
        producer = Producer({"bootstrap.servers": self.settings.KAFKA_BOOTSTRAP_SERVERS})
        for request in wanted:
            producer.produce(self.settings.REQUEST_TOPIC, request.payload(datetime.now(UTC)), key=request.batch_id)
        assert producer.flush(30) == 0, "Kafka did not take the requests"
        self.asked += wanted

    def _store(self, text: str) -> str:
        response = requests.post(self.settings.CONTENT_SERVICE_URL, data=text.encode(), timeout=10)
        response.raise_for_status()
        return str(response.json()["storage_id"])

    def stats(self) -> dict[str, int]:
        """Return what the fake provider was asked and has sent."""
        response = requests.get(f"{self.here.provider_url}/stats", timeout=10)
        response.raise_for_status()
        stats: dict[str, int] = response.json()
        return stats

    def provider_becomes(self, **behaviour: float) -> None:
        """Change how the fake provider behaves from now on."""
        requests.post(f"{self.here.provider_url}/behaviour", json=behaviour, timeout=10).raise_for_status()

    def being_sent(self) -> int:
        """Count the comparisons that a submitter has claimed and whose outcome it has not recorded."""
        with self.database.transaction() as session:
            return _count(session, ComparisonPair.status == ComparisonStatus.CLAIMED)

    def judged(self) -> int:
        """Count the comparisons that all batches together have completed."""
        with self.database.transaction() as session:
            return int(session.scalar(select(func.sum(CJBatchState.completed_comparisons))) or 0)

    def published(self) -> int:
        """Count the events that the relay knows to have arrived in Kafka."""
        with self.database.transaction() as session:
            return _count(session, OutboxEvent.published_at.is_not(None))

    def live(self) -> int:
        """Count the batches that are asked for and not yet at their end."""
        with self.database.transaction() as session:
            return len(self.asked) - _count(session, CJBatchState.state.in_(TERMINAL))

    def is_at_rest(self) -> bool:
        """Tell whether every batch has ended and every message of the provider has been worked."""
        stats = self.stats()
        if stats["pending"] or self.live():
            return False
        with self.database.transaction() as session:
            received = session.scalar(
                select(func.sum(KafkaPosition.next_offset)).where(
                    KafkaPosition.topic == self.settings.LLM_PROVIDER_CALLBACK_TOPIC
                )
            )
            undone = _count(session, InboxRow.done_at.is_(None))
            unpublished = _count(session, OutboxEvent.published_at.is_(None))
        return received == stats["callbacks"] and not undone and not unpublished

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until the condition holds; fail when it takes too long or a process ends unasked."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.here.supervisor.poll() is None, f"ended unasked: {self.here.supervisor.poll()}"
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
            time.sleep(POLL_SECONDS)

    def kill(self, name: str) -> None:
        """Kill a process and its children by signal 9, all in the same moment."""
        if name == "submitter":
            self.lost_in_the_air += AT_ONCE * len(self._children(name))
        os.killpg(self.here.supervisor.pid(name), signal.SIGKILL)

    def kill_children(self, name: str) -> None:
        """Kill the children of a pool by signal 9 and leave their parent alone."""
        for pid in self._children(name):
            os.kill(pid, signal.SIGKILL)

    def _children(self, name: str) -> list[int]:
        listing = subprocess.run(  # noqa: S603  Constant but for a number.
            ["ps", "-o", "pid=", "--ppid", str(self.here.supervisor.pid(name))],  # noqa: S607  Everybody's ps.
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(pid) for pid in listing.stdout.split()]

    def wipe_redis(self) -> None:
        with closing(redis.Redis.from_url(self.settings.REDIS_URL)) as client:
            client.flushall()


def _count(session: Session, condition: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).where(condition)) or 0


@contextmanager
def platform(folder: Path, logs: Path, setup: Setup) -> Iterator[Platform]:
    """Run everything, the data in `folder`, and wait until it takes requests."""
    wanted = Wanted(
        folder=folder,
        procfile=PROCFILE,
        sink=folder_sink(logs),
        provider_options=[f"--set {name}={value}" for name, value in setup.provider.items()],
        durable=False,
        copies=setup.copies,
        usual_ports=False,
    )
    with cluster(wanted) as here:
        running = Platform(here, logs)
        try:
            running.wait_for(lambda: _all_listen(here.ports), "the fakes and Flower listen", STARTING_SECONDS)
            yield running
        finally:
            running.database.close()


def _all_listen(ports: Mapping[str, int]) -> bool:
    return all(map(listens, ports.values()))
