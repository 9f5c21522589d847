"""What the embedded servers share: a child that answers before it is used and leaves nothing behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LOOPBACK = "127.0.0.1"
STARTING_SECONDS = 60.0
STOPPING_SECONDS = 30.0
ORPHAN_SECONDS = 2.0
POLL_SECONDS = 0.02

# The kernel sends the parting signal when the thread that started the child ends, not when our process ends.
# One thread that lives as long as the interpreter therefore starts every child.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


@dataclass(frozen=True)
class Launch:
    """How to start one child.

    `stop_signal` asks it to end, also when we are killed; `user` is an operating system user's name.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM


def home() -> Path:
    """Return the folder for what is kept between starts: $CJTASKS_HOME, else `.cjtasks` where we stand."""
    return Path(os.environ.get("CJTASKS_HOME") or ".cjtasks").resolve()


def free_port() -> int:
    """Return a loopback port that nobody listens on now; only the kernel's choice makes a clash unlikely."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def start(launch: Launch, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the child in a session of its own, so that Ctrl-C in our terminal is ours to pass on.

    Both its outputs go to `output`. Raises FileNotFoundError if there is no such program.
    """
    return _starter.submit(_start, launch, output).result()


def _start(launch: Launch, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  Every command is ours or stands in the developer's own Procfile.
        [*_dies_with_us(launch.stop_signal), *launch.command],
        env=launch.environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        user=launch.user,
        group=None if launch.user is None else pwd.getpwnam(launch.user).pw_gid,
        extra_groups=None if launch.user is None else [],
        start_new_session=True,
    )


@cache
def _dies_with_us(stop_signal: signal.Signals) -> tuple[str, ...]:
    """Return the prefix that has Linux signal the child when we are killed; nothing elsewhere."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    prefix = (setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), "--")
    trial = subprocess.run([*prefix, "true"], capture_output=True, check=False)  # noqa: S603  Constant.
    return prefix if trial.returncode == 0 else ()


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals, patience: float) -> int:
    """Ask the child to end, kill it after `patience` seconds, and clear its process group; return its code.

    Only the child itself is asked: a pool's children must go on until their parent tells them to end.
    """
    if process.poll() is None:
        process.send_signal(stop_signal)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    if process.poll() is not None:
        _end_orphans(process.pid)
    _signal_group(process.pid, signal.SIGKILL)
    return process.wait()


def _end_orphans(group: int) -> None:
    """Give what outlived the leader a moment; a short one, since the dead look alive where nobody reaps."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    alive = _signal_group(group, signal.SIGTERM)
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        alive = _signal_group(group, 0)


def _signal_group(group: int, number: int) -> bool:
    """Signal every process of the group; return whether there was one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def run(launch: Launch, log: Path) -> None:
    """Run a child to its end, its output in `log`. Raises Misconfigured with the last lines if it fails."""
    with log.open("wb") as output:
        process = start(launch, output)
    try:
        code = process.wait()
    finally:
        stop(process, launch.stop_signal, STOPPING_SECONDS)
    if code != 0:
        raise _failed(launch, log, f"it ended with code {code}")


@contextmanager
def serving(launch: Launch, log: Path, answers: Callable[[], bool]) -> Iterator[None]:
    """Run a server from its first answer to the end of the block; its output is appended to `log`.

    Raises Misconfigured with the log's last lines if the server ends or does not answer.
    """
    with log.open("ab") as output:
        process = start(launch, output)
    try:
        _await_answer(process, answers, partial(_failed, launch, log))
        yield
    finally:
        stop(process, launch.stop_signal, STOPPING_SECONDS)


def _await_answer(
    process: subprocess.Popen[bytes], answers: Callable[[], bool], failed: Callable[[str], Misconfigured]
) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while not answers():
        if process.poll() is not None:
            raise failed(f"it ended with code {process.returncode}")
        if time.monotonic() > deadline:
            raise failed(f"no answer in {STARTING_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _failed(launch: Launch, log: Path, reason: str) -> Misconfigured:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    return Misconfigured.of(f"{launch.name} failed: {reason}; {log} says:\n{tail}", operation="start_server")
