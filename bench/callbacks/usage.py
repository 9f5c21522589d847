"""Who used the processors: read from /proc for every process below this one, so on Linux only."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PROCESSORS = os.cpu_count() or 1

# The first text that a command holds names its process.
_NAMES = {
    "kafka.Kafka": "broker",
    "postgres": "postgres",
    "valkey-server": "valkey",
    "bench.callbacks.load": "load",
    "submissions": "submitter",
    "spawn_main": "provider",
    "celery": "worker",
    "-m consumers": "consumer",
    "bench.callbacks": "consumer",
}


class _Process(NamedTuple):
    pid: int
    parent: int
    ticks: int
    command: str


@dataclass(frozen=True)
class Usage:
    """Seconds of processor time so far by process name, and of the whole machine."""

    by_name: dict[str, float]
    machine: float

    def since(self, before: Usage) -> Usage:
        names = {name: used - before.by_name.get(name, 0.0) for name, used in self.by_name.items()}
        return Usage(names, self.machine - before.machine)

    @property
    def others(self) -> float:
        """Seconds that went to processes that are not ours."""
        return max(0.0, self.machine - sum(self.by_name.values()))


def usage() -> Usage:
    ours: Counter[str] = Counter()
    processes = _descendants()
    names = {process.pid: _name(process) for process in processes}
    for process in processes:
        name = names[process.pid]
        is_child_of_a_pool = name == "worker" == names.get(process.parent)
        ours["worker child" if is_child_of_a_pool else name] += process.ticks
    return Usage({name: ticks / TICKS_A_SECOND for name, ticks in ours.items()}, _machine() / TICKS_A_SECOND)


def _descendants() -> list[_Process]:
    children: dict[int, list[_Process]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        process = _read(entry) if entry.name.isdigit() else None
        if process is not None:
            children[process.parent].append(process)
    found, parents = [], [os.getpid()]
    while parents:
        below = children[parents.pop()]
        found += below
        parents += [process.pid for process in below]
    return found


def _read(entry: Path) -> _Process | None:
    try:
        after_the_name = (entry / "stat").read_text().rpartition(")")[2].split()
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        # It has ended meanwhile; its time is in its parent's sum.
        return None
    own_and_of_ended_children = sum(map(int, after_the_name[11:15]))
    return _Process(int(entry.name), int(after_the_name[1]), own_and_of_ended_children, command)


def _name(process: _Process) -> str:
    return next((name for part, name in _NAMES.items() if part in process.command), "bench")


def _machine() -> int:
    """Return the ticks that no processor was idle, the time stolen by the host left in."""
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return user + nice + system + sum(rest)
