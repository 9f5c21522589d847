"""One journey: the whole product on a stack of its own, many batches at once, watched and checked."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from sqlalchemy import text

from bench.journey import check, crowd
from bench.journey.watch import Point, Seen, Watch
from bench.server import tune
from cjtasks.dev.cluster import FAKE_CONTENT, FAKE_PROVIDER, Wanted, cluster
from cjtasks.dev.processes import RELEASE, folder_sink, read_procfile
from cjtasks.dev.servers import listens
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.journey.crowd import Crowd
    from cjtasks.dev.cluster import Cluster

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"
STARTING_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """Who comes within how many seconds, how the provider behaves, and when the bench gives up."""

    crowds: Sequence[Crowd]
    opened_within: float
    provider: Mapping[str, float]
    copies: Mapping[str, int]
    patience: float

    @property
    def batches(self) -> int:
        return sum(one.batches for one in self.crowds)


@dataclass(frozen=True)
class Latency:
    """Milliseconds from when the provider wrote its answer until the answer was committed."""

    answers: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class Journey:
    """What one journey showed; `seconds` from the first request to the last event on Kafka."""

    batches: int
    comparisons: int
    seconds: float
    points: Sequence[Point]
    seen: Mapping[str, Seen]
    connections: int
    latency: Latency
    problems: Sequence[str]


def run(plan: Plan, folder: Path) -> Journey:
    tune(folder)
    wanted = Wanted(
        folder=folder,
        procfile=PROCFILE,
        sink=folder_sink(folder / "logs"),
        provider_options=[f"--set {name}={value}" for name, value in plan.provider.items()],
        copies=plan.copies,
        usual_ports=False,
    )
    with cluster(wanted) as here, closing(Database(here.settings().DATABASE_URL)) as database:
        _wait(here, lambda: all(map(listens, here.ports.values())), STARTING_SECONDS)
        requests_ = crowd.requests_for(here.settings(), plan.crowds)
        watch = Watch(here, _names(plan.copies), database)
        watch.start()
        began = time.monotonic()
        crowd.publish(here.settings(), requests_, plan.opened_within)
        _wait(here, lambda: _all_published(database, plan.batches), plan.patience)
        seconds = time.monotonic() - began
        watch.finish()
        _wait(here, lambda: _all_worked(here, database), STARTING_SECONDS)
        return _seen(plan, _Ran(here, database, watch, seconds))


@dataclass(frozen=True)
class _Ran:
    here: Cluster
    database: Database
    watch: Watch
    seconds: float


def _names(copies: Mapping[str, int]) -> list[str]:
    procfile = [process.name for process in read_procfile(PROCFILE) if process.name != RELEASE]
    more = [f"{name}-{number}" for name, count in copies.items() for number in range(2, count + 1)]
    return [*procfile, *more, FAKE_PROVIDER, FAKE_CONTENT]


def _wait(here: Cluster, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if (ended := here.supervisor.poll()) is not None:
            raise RuntimeError(f"{ended[0]} ended unasked with code {ended[1]}; see {here.stack.folder / 'logs'}")
        if time.monotonic() > deadline:
            # What is missing is told by the check.
            return
        time.sleep(0.25)


_PUBLISHED = text(
    """
    SELECT count(DISTINCT batch_id) = :batches AND count(*) = count(published_at) FROM event_outbox
    WHERE kind <> 'partial'
    """
)
_RECEIVED = text(
    """
    SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL) = 0
        AND (SELECT sum(next_offset) FROM kafka_positions WHERE topic = :topic) = :callbacks
    """
)
# Where the 202 is recorded after the answer, the row's last transaction is not the one of the answer.
_LATENCY = text(
    """
    SELECT count(*), percentile_cont(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY 1000 * extract(epoch FROM
        pg_xact_commit_timestamp(xmin) - judged_at)::float8)
    FROM cj_comparison_pairs WHERE status = 'completed' AND submitted_at < judged_at
    """
)


def _all_published(database: Database, batches: int) -> bool:
    with database.transaction() as session:
        return bool(session.scalar(_PUBLISHED, {"batches": batches}))


def _all_worked(here: Cluster, database: Database) -> bool:
    """Tell whether late and second answers are worked too: the provider has no more of them."""
    provider, topic = _stats(here), here.settings().LLM_PROVIDER_CALLBACK_TOPIC
    with database.transaction() as session:
        return not provider["pending"] and bool(
            session.scalar(_RECEIVED, {"topic": topic, "callbacks": provider["callbacks"]})
        )


def _stats(here: Cluster) -> Mapping[str, int]:
    response = requests.get(f"{here.provider_url}/stats", timeout=10)
    response.raise_for_status()
    stats: dict[str, int] = response.json()
    return stats


def _seen(plan: Plan, ran: _Ran) -> Journey:
    with ran.database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        answers, percentiles = session.execute(_LATENCY).one()
        problems = [
            *check.problems(session, plan.batches, _stats(ran.here)),
            *check.event_problems(ran.here.settings(), plan.batches),
        ]
    return Journey(
        batches=plan.batches,
        comparisons=ran.watch.points[-1].processed,
        seconds=ran.seconds,
        points=ran.watch.points,
        seen=ran.watch.seen,
        connections=ran.watch.connections,
        latency=Latency(answers, *(percentiles or (0.0, 0.0, 0.0))),
        problems=problems,
    )
