"""What is seen from outside while the batches run: memory and processor time by process, connections, progress."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cjtasks.dev.cluster import Cluster
    from cjtasks.store.session import Database

EVERY = 1.0
MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

_SERVICES = {"postgres": "postgres", "valkey-server": "valkey", "kafka.Kafka": "broker"}

_LOOK = text(
    """
    SELECT coalesce(sum(completed_comparisons + failed_comparisons), 0),
        count(*) FILTER (WHERE state IN ('COMPLETED', 'FAILED', 'CANCELLED')),
        (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())
    FROM cj_batch_states
    """
)


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int
    ticks: int
    resident: int
    command: str


@dataclass
class Seen:
    """One process of the Procfile or one service: the most that any of its processes held, and their time."""

    peak_mib: float = 0.0
    processes: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Point:
    """How far all batches were at one moment, in seconds since the watch began."""

    seconds: float
    processed: int
    ended: int


@dataclass
class Watch:
    """Looks every second from a thread of its own, at the services and the processes of these names."""

    here: Cluster
    names: Sequence[str]
    database: Database
    seen: dict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    points: list[Point] = field(default_factory=list)
    connections: int = 0
    _stop: Event = field(default_factory=Event)
    _ticks: dict[tuple[str, int], int] = field(default_factory=dict)

    def start(self) -> None:
        self._began = time.monotonic()
        self._note()
        self._first = {name: one.cpu_seconds for name, one in self.seen.items()}
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()
        self._note()
        for name, one in self.seen.items():
            one.cpu_seconds -= self._first.get(name, 0.0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self._note()

    def _note(self) -> None:
        self._note_processes()
        with self.database.transaction() as session:
            processed, ended, connections = session.execute(_LOOK).one()
        self.points.append(Point(time.monotonic() - self._began, int(processed), ended))
        self.connections = max(self.connections, connections)

    def _note_processes(self) -> None:
        groups = {self.here.supervisor.pid(name): name for name in self.names}
        running: dict[str, int] = defaultdict(int)
        for process in _processes():
            name = groups.get(process.group) or _service(process.command)
            if name is None:
                continue
            running[name] += 1
            self._ticks[name, process.pid] = process.ticks
            self.seen[name].peak_mib = max(self.seen[name].peak_mib, process.resident / MIB)
        for name, number in running.items():
            self.seen[name].processes = max(self.seen[name].processes, number)
            used = sum(ticks for (owner, _), ticks in self._ticks.items() if owner == name)
            self.seen[name].cpu_seconds = used / TICKS_A_SECOND


def _service(command: str) -> str | None:
    return next((name for part, name in _SERVICES.items() if part in command), None)


def _processes() -> Iterator[_Process]:
    """Yield every process below this one."""
    children: dict[int, list[_Process]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        process = _read(entry) if entry.name.isdigit() else None
        if process is not None:
            children[process.parent].append(process)
    parents = [os.getpid()]
    while parents:
        below = children[parents.pop()]
        parents += [process.pid for process in below]
        yield from below


def _read(entry: Path) -> _Process | None:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        # It has ended meanwhile.
        return None
    parent, group, ticks, pages = (int(fields[n]) for n in (1, 2, 11, 21))
    return _Process(int(entry.name), parent, group, ticks + int(fields[12]), pages * PAGE, command)
