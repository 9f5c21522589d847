"""The demo's one batch: asked for over Kafka, watched in Postgres, its events read from Kafka."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import select

from cjtasks.cli.request import ask_for
from cjtasks.cli.views import Progressing, final_snapshot, look, ranking_table, results, tell
from cjtasks.clients import kafka
from cjtasks.dev.demo_essays import INTENDED_QUALITY, demo_assignment, demo_essays
from cjtasks.dev.servers import listens
from cjtasks.domain.states import TERMINAL, BatchStateEnum
from cjtasks.errors import Misconfigured, Retryable
from cjtasks.store.models import CJBatchUpload
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy.orm import Session

    from cjtasks.dev.cluster import Cluster

PATIENCE = 90.0
EXPECTED_EVENTS = 3
PLAUSIBLE = 0.7


@dataclass(frozen=True)
class _Watch:
    """What the demo looks at: one batch in one database, until it ends."""

    here: Cluster
    database: Database
    batch_id: str

    def look(self) -> Progressing | None:
        with self.database.transaction() as session:
            upload = _find(session, self.batch_id)
            return look(session, upload) if upload else None


def watch_one_batch(here: Cluster, console: Console) -> None:
    """Run the demo's batch; raises when it does not end COMPLETED with a plausible ranking."""
    settings = here.settings()
    events = _Events(here)
    if not here.stack.kafka_is_real:
        console.print("no Java or Maven here: Kafka is a mock inside this process, which keeps nothing")
    _wait_for_services(here)
    batch_id = ask_for(settings, demo_essays(), demo_assignment())
    console.print(f"asked for batch {batch_id}: 24 essays on one assignment")
    database = Database(settings.DATABASE_URL)
    try:
        view = _follow(_Watch(here, database, batch_id), console)
        published = events.read(EXPECTED_EVENTS)
        _report(console, database, view, published)
    finally:
        events.close()
        database.close()
    console.print(
        f"[bold]Flower[/] was at {here.flower_url} while the demo ran; `cjtasks dev` keeps it up. "
        f"The logs of every process are in {here.stack.folder / 'logs'}"
    )


def _wait_for_services(here: Cluster) -> None:
    """Wait until the fake Content Service listens; everything else may start while the batch waits."""
    deadline = time.monotonic() + PATIENCE
    while not all(listens(port) for port in here.ports.values()):
        _raise_if_ended(here)
        if time.monotonic() > deadline:
            raise Retryable.of("the processes did not start in time", operation="demo")
        time.sleep(0.05)


def _raise_if_ended(here: Cluster) -> None:
    ended = here.supervisor.poll()
    if ended is not None:
        log = here.stack.folder / "logs" / f"{ended[0]}.log"
        raise Misconfigured.of(f"{ended[0]} ended with code {ended[1]}: see {log}", operation="demo")


def _find(session: Session, batch_id: str) -> CJBatchUpload | None:
    return session.scalars(select(CJBatchUpload).where(CJBatchUpload.bos_batch_id == batch_id)).first()


def _follow(watch: _Watch, console: Console) -> Progressing:
    """Show progress until the batch ends; raises when it fails or takes too long."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[state]:<17}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
    )
    deadline = time.monotonic() + PATIENCE
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None, state="waiting", counts="")
        while time.monotonic() < deadline:
            _raise_if_ended(watch.here)
            view = watch.look()
            if view is not None:
                counts = f"answered, {view.failed} failed, iteration {view.iteration}, ${view.cost:.4f}"
                done = view.completed + view.failed
                progress.update(bar, completed=done, total=view.planned or None, state=view.state, counts=counts)
                if BatchStateEnum(view.state) in TERMINAL:
                    return _completed(view)
            time.sleep(0.1)
    raise Retryable.of(f"the batch did not end within {PATIENCE:.0f} s", operation="demo")


def _completed(view: Progressing) -> Progressing:
    if view.state != BatchStateEnum.COMPLETED:
        raise Misconfigured.of(f"the batch ended {view.state}: {view.stop_reason}", operation="demo")
    return view


def _report(console: Console, database: Database, view: Progressing, published: list[dict[str, Any]]) -> None:
    with database.transaction() as session:
        upload = _find(session, view.platform_id)
        final = final_snapshot(session, view.batch)
        shown = results(upload, final) if upload else []
    console.print(ranking_table(shown))
    tell(console, final.words if final else [])
    rho = _agreement({result.id: result.score for result in shown if result.score is not None})
    console.print(
        f"{view.completed} comparisons judged, {view.failed} failed, {view.iteration} iterations "
        f"({view.stop_reason}); {view.seconds:.1f} s; ${view.cost:.4f}\n"
        f"events on Kafka: {', '.join(event['event_type'] for event in published)}\n"
        f"correlation of the ranks with the quality that the essays were written to have: {rho:.2f}"
    )
    if rho < PLAUSIBLE:
        raise Misconfigured.of("the ranking is not plausible", operation="demo")


def _agreement(scores: dict[str, float]) -> float:
    """Correlate ranks, because one essay that wins every comparison would rule a correlation of scores."""
    by_rank = sorted(scores, key=lambda name: scores[name])
    return float(np.corrcoef(range(len(by_rank)), [INTENDED_QUALITY[name] for name in by_rank])[0, 1])


class _Events:
    """Reads what is published from the moment of its making, as any other service would."""

    def __init__(self, here: Cluster) -> None:
        settings = here.settings()
        self._topics = (settings.COMPLETED_TOPIC, settings.RESULT_TOPIC, settings.CONSUMPTION_TOPIC)
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
                "group.id": f"demo-{uuid4()}",
                "enable.auto.commit": False,
            }
        )
        found = self._consumer.list_topics(timeout=20).topics
        places = [TopicPartition(topic, number) for topic in self._topics for number in found[topic].partitions]
        for place in places:
            place.offset = kafka.watermarks(self._consumer, place)[1]
        self._consumer.assign(places)

    def read(self, count: int) -> list[dict[str, Any]]:
        """Return `count` envelopes; raises when they do not come within 20 s."""
        deadline = time.monotonic() + 20
        envelopes: list[dict[str, Any]] = []
        while len(envelopes) < count:
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                envelopes.append(json.loads(message.value() or b"null"))
            if time.monotonic() > deadline:
                raise Retryable.of(f"only {len(envelopes)} of {count} events came on Kafka", operation="demo")
        return envelopes

    def close(self) -> None:
        self._consumer.close()
