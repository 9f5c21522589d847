"""The processes of a Procfile, run together: all or none, their lines told apart, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from threading import Event, Lock, Thread
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from cjtasks.dev.servers import Launch, start, stop
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RELEASE = "release"
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.1
READERS_SECONDS = 5.0
COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red", "bright_cyan", "bright_green")

# Takes a process's name and one line of its output, without the line's end. Lines of several processes come
# from several threads, though never two at once.
LogSink = Callable[[str, str], None]


@dataclass(frozen=True)
class Process:
    """One line of a Procfile; the command is a shell's."""

    name: str
    command: str


def read_procfile(path: Path) -> list[Process]:
    """Return the processes in the file's order, `release` among them.

    Raises Misconfigured naming the line that is no `name: command` or gives a name twice.
    """
    processes: list[Process] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        process = _read_line(text, f"{path}, line {number}")
        if process.name in {known.name for known in processes}:
            raise _refused(f"{path}, line {number}: `{process.name}` stands there twice")
        processes.append(process)
    return processes


def _read_line(text: str, place: str) -> Process:
    name, colon, command = (part.strip() for part in text.partition(":"))
    if not colon or not command or not name.replace("-", "").replace("_", "").isalnum():
        raise _refused(f"{place}: expected `name: command`, not `{text}`")
    return Process(name, command)


def _refused(message: str) -> Misconfigured:
    return Misconfigured.of(message, operation="read_procfile")


def terminal_sink(names: Iterable[str]) -> LogSink:
    """Return a sink that prints each line after its process's name, each name in its colour."""
    colours = dict(zip(names, cycle(COLOURS), strict=False))
    width = max(map(len, colours), default=0)
    console = Console(highlight=False, soft_wrap=True)

    def show(name: str, line: str) -> None:
        prefix = Text(f"{name:<{width}} │ ", style=colours.get(name, "bold"))
        console.print(prefix + Text.from_ansi(line))

    return show


def folder_sink(folder: Path) -> LogSink:
    """Return a sink that appends each line to `folder`/<name>.log."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, line: str) -> None:
        with (folder / f"{name}.log").open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    return write


class Supervisor:
    """Starts every process but `release`, and stops them all when one ends unasked.

    `environment` is added to ours; the folder of our Python comes first on the PATH, so that `celery` is the
    one installed beside us. Without a sink the lines go to the terminal.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        environment: Mapping[str, str] | None = None,
        sink: LogSink | None = None,
    ) -> None:
        self._processes = processes
        self._environment = _environment(environment or {})
        self._sink = sink or terminal_sink([process.name for process in processes])
        self._one_line_at_a_time = Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: list[Thread] = []

    def release(self) -> int:
        """Run the Procfile's `release` to its end and return its code; 0 if there is none."""
        for process in self._processes:
            if process.name == RELEASE:
                return self.run_to_end(process)
        return 0

    def start(self) -> None:
        for process in self._processes:
            if process.name != RELEASE:
                self._running[process.name] = self._start(process)

    def poll(self) -> tuple[str, int] | None:
        """Return the name and code of a process that ended (-9: killed by signal 9), None if all run."""
        for name, child in self._running.items():
            code = child.poll()
            if code is not None:
                return name, code
        return None

    def pid(self, name: str) -> int:
        """Return the id of a process that was started; it is also the id of the group of its children."""
        return self._running[name].pid

    def restart(self, name: str) -> None:
        """Start a process anew, as production's supervisor does; what is left of the old one is killed first."""
        (process,) = (known for known in self._processes if known.name == name)
        stop(self._running[name], signal.SIGKILL, PATIENCE_SECONDS)
        self._running[name] = self._start(process)

    def stop(self, patience: float = PATIENCE_SECONDS) -> None:
        """Ask all of them at once to end by SIGTERM; kill what is left after `patience` seconds."""
        ends = [partial(_stop, child, patience) for child in self._running.values()]
        if ends:
            with ThreadPoolExecutor(len(ends), "stop") as pool:
                list(pool.map(lambda end: end(), ends))
        self._running.clear()
        self._finish_reading()

    def run(self, stopping: Event) -> tuple[str, int] | None:
        """Run until `stopping` is set (None) or a process ends unasked: that one's name and code.

        Either way nothing is left running; an unasked end is told in the sink.
        """
        try:
            self.start()
            ended = self.poll()
            while ended is None and not stopping.wait(POLL_SECONDS):
                ended = self.poll()
            if ended is not None:
                self._tell(ended[0], f"ended unasked with code {ended[1]}: stopping the others")
            return ended
        finally:
            self.stop()

    def _start(self, process: Process) -> subprocess.Popen[bytes]:
        launch = Launch(process.name, ("/bin/sh", "-c", process.command), self._environment)
        child = start(launch, subprocess.PIPE)
        assert child.stdout is not None  # noqa: S101  Popen promises it for PIPE.
        reader = Thread(target=self._read, args=(process.name, child.stdout), daemon=True)
        reader.start()
        self._readers.append(reader)
        return child

    def run_to_end(self, process: Process) -> int:
        child = self._start(process)
        try:
            code = child.wait()
        finally:
            _stop(child, PATIENCE_SECONDS)
        self._finish_reading()
        return code

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self._tell(name, line.decode(errors="replace").rstrip("\r\n"))

    def _tell(self, name: str, line: str) -> None:
        with self._one_line_at_a_time:
            self._sink(name, line)

    def _finish_reading(self) -> None:
        """Wait for the last lines, though not for ever: a process that left its group may hold the pipe."""
        deadline = time.monotonic() + READERS_SECONDS
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        self._readers.clear()


def _environment(additions: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **additions}


def _stop(child: subprocess.Popen[bytes], patience: float) -> int:
    return stop(child, signal.SIGTERM, patience)
