"""One run: seed, start a form's processes, offer answers at one rate, measure in the middle, check at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from bench.callbacks import facts
from bench.callbacks.facts import Latency, Window, Written
from bench.callbacks.seed import seed
from bench.callbacks.usage import PROCESSORS, Usage, usage
from bench.callbacks.wire import UNREADABLE
from bench.submissions.seed import plan
from cjtasks.dev.processes import Supervisor, folder_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.callbacks.forms import Form
    from cjtasks.dev.stack import Stack
    from cjtasks.settings import Settings
    from cjtasks.store.session import Database

STARTING_SECONDS = 60.0
DRAINING_SECONDS = 90.0

TO_SEND = (500, 48)
"""Batches and the comparisons of each that are sent beside the answers, more than any run has time for."""


@dataclass(frozen=True)
class Bench:
    """Where the runs happen, and how long each is measured after it has warmed up."""

    stack: Stack
    settings: Settings
    database: Database
    provider_url: str
    warm_up: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What one run showed; `processors` is in microseconds a message, `others` the share of the machine."""

    form: str
    offered: float
    achieved: float
    latency: Latency
    backlog: int
    processors: dict[str, float]
    others: float
    wal_bytes: float
    whole_pages: float
    commits_a_second: float
    messages_a_row: float
    sent_a_second: float
    problems: list[str]


@dataclass(frozen=True)
class _Sample:
    used: Usage
    written: Written


def run(bench: Bench, form: Form, rate: float) -> Measured:
    """Offer `rate` answers a second to a form's processes; raises when they do not come up."""
    count = int(rate * (bench.warm_up + bench.seconds))
    _seed(bench, form, count)
    with _processes(bench, form), _load(bench, rate, count) as load:
        probes = _wait_until_it_works(bench)
        window, before, after = _measure(bench, load)
        if load.wait() != 0:
            raise RuntimeError("the load failed; its own words are above")
        if form.keeps_inbox:
            _wait_until(lambda: _answered(bench) >= count, DRAINING_SECONDS)
    return _measured(bench, form, _Run(rate, count, probes, window, before, after))


def _seed(bench: Bench, form: Form, count: int) -> None:
    seed(bench.database, count)
    if form.sends:
        with bench.database.transaction() as session:
            plan(session, *TO_SEND)


@dataclass(frozen=True)
class _Run:
    rate: float
    count: int
    probes: int
    window: Window
    before: _Sample
    after: _Sample


@contextmanager
def _processes(bench: Bench, form: Form) -> Iterator[None]:
    environment = {**bench.stack.environment(), "CJ_LLM_PROVIDER_SERVICE_URL": bench.provider_url}
    supervisor = Supervisor(form.processes, environment, folder_sink(bench.stack.folder / "logs"))
    try:
        supervisor.start()
        yield
        ended = supervisor.poll()
        if ended is not None:
            raise RuntimeError(f"{ended[0]} ended unasked with code {ended[1]}; see {bench.stack.folder / 'logs'}")
    finally:
        supervisor.stop()


@contextmanager
def _load(bench: Bench, rate: float, count: int) -> Iterator[subprocess.Popen[str]]:
    """Start the load and wait until it has read which comparisons it will answer."""
    command = [sys.executable, "-m", "bench.callbacks.load", str(rate), str(count)]
    environment = {**os.environ, **bench.stack.environment()}
    with subprocess.Popen(  # noqa: S603  Constant but for two numbers.
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            _line(process)
            yield process
        finally:
            process.terminate()


def _line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError("the load ended; its own words are above")
    return line


def _wait_until_it_works(bench: Bench) -> int:
    """Send what nobody can read until it becomes a dead letter; return how many messages that took."""
    producer = Producer({"bootstrap.servers": bench.stack.kafka_bootstrap_servers})
    deadline, sent = time.monotonic() + STARTING_SECONDS, 0
    while not _dead_letters(bench):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing is worked; see {bench.stack.folder / 'logs'}")
        producer.produce(bench.settings.LLM_PROVIDER_CALLBACK_TOPIC, UNREADABLE)
        producer.flush(10)
        sent += 1
        time.sleep(1)
    return sent


def _measure(bench: Bench, load: subprocess.Popen[str]) -> tuple[Window, _Sample, _Sample]:
    if load.stdin is None:
        raise RuntimeError("the load cannot be told to begin")
    load.stdin.write("go\n")
    load.stdin.flush()
    start = json.loads(_line(load))["began"] + bench.warm_up
    _sleep_until(start)
    before = _sample(bench)
    _sleep_until(start + bench.seconds)
    return Window(start, start + bench.seconds), before, _sample(bench)


def _sample(bench: Bench) -> _Sample:
    with bench.database.transaction() as session:
        return _Sample(usage(), facts.written(session))


def _measured(bench: Bench, form: Form, ran: _Run) -> Measured:
    used, wrote = ran.after.used.since(ran.before.used), ran.after.written.since(ran.before.written)
    with bench.database.transaction() as session:
        within, until_the_end = facts.committed(session, ran.window)
        done = max(within, 1)
        return Measured(
            form=form.name,
            offered=ran.rate,
            achieved=within / bench.seconds,
            latency=facts.latency(session, ran.window),
            backlog=ran.count - until_the_end,
            processors={name: 1e6 * seconds / done for name, seconds in used.by_name.items()},
            others=used.others / (bench.seconds * PROCESSORS),
            wal_bytes=wrote.wal_bytes / done,
            whole_pages=wrote.whole_pages / done,
            commits_a_second=wrote.commits / bench.seconds,
            messages_a_row=facts.messages_a_row(session),
            sent_a_second=facts.sent(session, ran.window) / bench.seconds,
            problems=_problems(bench, form, ran),
        )


def _problems(bench: Bench, form: Form, ran: _Run) -> list[str]:
    """Check a form that keeps an inbox; the other one promises nothing that could be checked."""
    if not form.keeps_inbox:
        return []
    with bench.database.transaction() as session:
        return [*facts.problems(session, ran.count), *facts.inbox_problems(session, ran.count + ran.probes)]


def _answered(bench: Bench) -> int:
    with bench.database.transaction() as session:
        return facts.answered(session)


def _dead_letters(bench: Bench) -> int:
    with bench.database.transaction() as session:
        return facts.dead_letters(session)


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.5)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
