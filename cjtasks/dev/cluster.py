"""The whole of cjtasks on one machine: the three services, the fakes, and every process of the Procfile."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alembic.config import Config
from sqlalchemy import delete

from alembic import command
from cjtasks.clients import kafka
from cjtasks.dev.processes import Process, Supervisor, read_procfile
from cjtasks.dev.servers import free_port, listens
from cjtasks.dev.stack import Stack, stack
from cjtasks.errors import Misconfigured
from cjtasks.settings import Settings
from cjtasks.store.models import KafkaPosition
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cjtasks.dev.processes import LogSink

FAKE_PROVIDER, FAKE_CONTENT, FLOWER = "fake-provider", "fake-content", "flower"


@dataclass(frozen=True)
class Wanted:
    """What to run: where data and logs are kept, how the fake provider behaves, who gets the output.

    `copies` says how many of a process run beside each other, one by default: `worker`, `worker-2` and so on.
    Without `usual_ports` any free ones are taken, since another stack may be about to listen on the usual ones.
    """

    folder: Path
    procfile: Path
    sink: LogSink | None = None
    provider_options: Sequence[str] = ()
    durable: bool = True
    environment: Mapping[str, str] | None = None
    copies: Mapping[str, int] = field(default_factory=dict)
    usual_ports: bool = True


@dataclass(frozen=True)
class Cluster:
    """A stack with every process running; `environment` lets another process find all of it."""

    stack: Stack
    supervisor: Supervisor
    environment: Mapping[str, str]
    ports: Mapping[str, int]

    def settings(self) -> Settings:
        names = {name.removeprefix("CJ_"): value for name, value in self.environment.items() if name.startswith("CJ_")}
        return Settings.model_validate(names)

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[FLOWER]}"

    @property
    def provider_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[FAKE_PROVIDER]}"


@contextmanager
def cluster(wanted: Wanted) -> Iterator[Cluster]:
    """Start everything, yield it, and stop all of it; raises Misconfigured when something does not start."""
    processes = _processes(wanted)
    with stack(wanted.folder, durable=wanted.durable) as services:
        ports = {name: _port(usual) if wanted.usual_ports else free_port() for name, usual in _USUAL.items()}
        environment = _environment(services, ports, wanted)
        supervisor = Supervisor(processes, environment, wanted.sink)
        running = Cluster(services, supervisor, environment, ports)
        _release(running, wanted.procfile.parent)
        try:
            supervisor.start()
            yield running
        finally:
            supervisor.stop()


def _processes(wanted: Wanted) -> list[Process]:
    if not wanted.procfile.exists():
        raise Misconfigured.of(f"no Procfile in {wanted.procfile.parent}: run this in the project", operation="start")
    options = " ".join(wanted.provider_options)
    return [
        *_copied(read_procfile(wanted.procfile), wanted.copies),
        Process(FAKE_PROVIDER, f"exec cjtasks fake-provider --port $FAKE_PROVIDER_PORT {options}"),
        Process(FAKE_CONTENT, "exec cjtasks fake-content --port $FAKE_CONTENT_PORT"),
    ]


def _copied(processes: Sequence[Process], copies: Mapping[str, int]) -> list[Process]:
    unknown = set(copies) - {process.name for process in processes}
    if unknown:
        raise Misconfigured.of(f"the Procfile has no {', '.join(sorted(unknown))} to copy", operation="start")
    return [copy for process in processes for copy in _copies(process, copies.get(process.name, 1))]


def _copies(process: Process, number: int) -> list[Process]:
    return [process, *(Process(f"{process.name}-{n}", process.command) for n in range(2, number + 1))]


_USUAL = {FLOWER: 5555, FAKE_PROVIDER: 8080, FAKE_CONTENT: 8000}


def _port(usual: int) -> int:
    """Return the usual port, or any free one where somebody else listens there."""
    return free_port() if listens(usual) else usual


def _environment(services: Stack, ports: Mapping[str, int], wanted: Wanted) -> dict[str, str]:
    fakes = {
        "CJ_LLM_PROVIDER_SERVICE_URL": f"http://127.0.0.1:{ports[FAKE_PROVIDER]}/api/v1",
        "CJ_CONTENT_SERVICE_URL": f"http://127.0.0.1:{ports[FAKE_CONTENT]}/v1/content",
    }
    named = {name: os.environ[name] for name in fakes if name in os.environ}
    return {
        **services.environment(),
        **fakes,
        **named,
        "FLOWER_PORT": str(ports[FLOWER]),
        "FAKE_PROVIDER_PORT": str(ports[FAKE_PROVIDER]),
        "FAKE_CONTENT_PORT": str(ports[FAKE_CONTENT]),
        **(wanted.environment or {}),
    }


def _release(running: Cluster, project: Path) -> None:
    """Bring schema and topics up to date, as the Procfile's release does in production, without a start of Python."""
    settings = running.settings()
    config = Config(str(project / "alembic.ini"))
    # The ini's syntax gives the percent sign a meaning.
    config.set_main_option("sqlalchemy.url", settings.DATABASE_URL.replace("%", "%%"))
    command.upgrade(config, "head")
    if running.stack.kafka_is_real:
        kafka.ensure_topics(settings)
    else:
        _touch_topics(settings)


def _touch_topics(settings: Settings) -> None:
    """Make the mock's topics, which appear when asked about, and forget positions in those that it had before."""
    producer = kafka.producer(settings, "dev")
    for topic in kafka.topics(settings):
        producer.list_topics(topic, timeout=kafka.ADMIN_SECONDS)
    database = Database(settings.DATABASE_URL)
    with database.transaction() as session:
        session.execute(delete(KafkaPosition))
    database.close()
