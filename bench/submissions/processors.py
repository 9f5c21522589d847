"""Processor time of Postgres and of the provider, read from /proc, so on Linux only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Processors:
    """Seconds so far."""

    postgres: float
    provider: float

    def since(self, before: Processors) -> Processors:
        return Processors(self.postgres - before.postgres, self.provider - before.provider)


def processors(provider_pid: int) -> Processors:
    parts = {int(entry.name): _read(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    roots = {pid for pid, (parent, _, command) in parts.items() if parent == os.getpid() and "postgres" in command}
    servers = [pid for pid, (parent, _, _) in parts.items() if pid in roots or parent in roots]
    ticks = sum(parts[pid][1] for pid in servers)
    return Processors(ticks / TICKS_A_SECOND, parts.get(provider_pid, (0, 0, ""))[1] / TICKS_A_SECOND)


def _read(entry: Path) -> tuple[int, int, str]:
    """Return a process's parent, its ticks with those of its ended children, and its command."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        command = (entry / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        # It has ended meanwhile; its time is in its parent's sum.
        return 0, 0, ""
    return int(fields[1]), sum(map(int, fields[11:15])), command
