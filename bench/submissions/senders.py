"""The two ways to send: the product's submit step, and nothing but the posts. Each runs in processes of its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from pydantic_core import to_json
from sqlalchemy import select

from cjtasks import runtime
from cjtasks.clients.http import session_for
from cjtasks.clients.llm_provider import CONNECTIONS
from cjtasks.steps import letters, submit
from cjtasks.store.claims import Taken
from cjtasks.store.models import ComparisonPair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

    from cjtasks.settings import Settings
    from cjtasks.store.session import Database

    # Makes everything ready in the sender's own process and returns what sends.
    Way = Callable[["Work"], Callable[[], None]]

PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Work:
    """What one process does: the settings say where, `bodies` what a bare one posts."""

    settings: Settings
    bodies: Sequence[bytes] = ()


@dataclass(frozen=True)
class Sent:
    """One process's part: when it began and ended (seconds since 1970) and the processor time that it used."""

    began: float
    ended: float
    cpu: float


def bodies_of(database: Database, settings: Settings) -> list[bytes]:
    """Return the very bodies that the product would post for what is planned."""
    with database.transaction() as session:
        rows = session.execute(
            select(
                ComparisonPair.id,
                ComparisonPair.cj_batch_id,
                ComparisonPair.essay_a_els_id,
                ComparisonPair.essay_b_els_id,
                ComparisonPair.request_correlation_id,
                ComparisonPair.iteration,
                ComparisonPair.attempt,
            )
        )
        written = letters.write(session, [Taken(*row) for row in rows])
    return [to_json(letter.request(settings.LLM_PROVIDER_CALLBACK_TOPIC).body()) for letter in written]


def submit_all(work: Work) -> Callable[[], None]:
    """Send everything as a submitter does: claimed, posted, recorded, until nothing is due."""
    chosen = runtime.build(work.settings)
    chosen.database.engine.connect().close()

    def send() -> None:
        while submit.submit(chosen):
            pass

    return send


def post_all(work: Work) -> Callable[[], None]:
    """Post the same bodies from as many threads through one session, and look at nothing but the status."""
    url = f"{work.settings.LLM_PROVIDER_SERVICE_URL}/comparison"
    session = session_for(url, CONNECTIONS)
    session.headers["Content-Type"] = "application/json"

    def post(body: bytes) -> None:
        response = session.post(url, data=body, timeout=30)
        response.raise_for_status()
        response.json()

    def send() -> None:
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(post, work.bodies))

    return send


def run(prepare: Way, works: Sequence[Work]) -> list[Sent]:
    """Run one process for each piece of work, all from the same moment on."""
    context = get_context("spawn")
    ready, told = context.Barrier(len(works)), context.SimpleQueue()
    processes = [context.Process(target=_run, args=(prepare, work, ready, told)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_SECONDS)
        if process.exitcode != 0:
            raise RuntimeError("a sender failed; its own words are above")
    return [Sent(*told.get()) for _ in works]


def _run(
    prepare: Callable[[Work], Callable[[], None]],
    work: Work,
    ready: Barrier,
    told: SimpleQueue[tuple[float, float, float]],
) -> None:
    send = prepare(work)
    ready.wait(PATIENCE_SECONDS)
    began, cpu = time.time(), time.process_time()
    send()
    told.put((began, time.time(), time.process_time() - cpu))
