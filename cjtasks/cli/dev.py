"""`cjtasks dev` and `cjtasks demo`: everything on one machine, with nothing installed beside Python."""

from __future__ import annotations

import shutil
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel

from cjtasks.cli.demo import watch_one_batch
from cjtasks.dev.cluster import Cluster, Wanted, cluster
from cjtasks.dev.processes import folder_sink
from cjtasks.dev.servers import home
from cjtasks.errors import Misconfigured

Folder = Annotated[Path | None, typer.Option(help="Where data and logs are kept; .cjtasks/dev by default.")]

console = Console(highlight=False)


def dev(folder: Folder = None) -> None:
    """Run Postgres, Valkey, Kafka, the fakes and every process until Ctrl-C."""
    stopping = _stop_on_signals()
    wanted = Wanted(
        folder=folder or home() / "dev",
        procfile=Path("Procfile"),
        provider_options=("--set latency=1 --set jitter=0.7 --set cost_per_call=0.0004",),
    )
    with ExitStack() as running:
        with console.status("starting Postgres, Valkey, Kafka and every process"):
            here = running.enter_context(cluster(wanted))
        running.callback(console.print, "stopping everything")
        _banner(here)
        ended = _wait(here, stopping)
    if ended is not None:
        raise Misconfigured.of(f"{ended[0]} ended with code {ended[1]}", operation="dev")


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def _wait(here: Cluster, stopping: threading.Event) -> tuple[str, int] | None:
    while not stopping.wait(0.2):
        ended = here.supervisor.poll()
        if ended is not None:
            return ended
    return None


def _banner(here: Cluster) -> None:
    exports = "\n".join(f"export {name}={value}" for name, value in here.environment.items() if name.startswith("CJ_"))
    kafka = "a real broker" if here.stack.kafka_is_real else "an in-process mock (no Java or Maven): forgets at stop"
    console.print(
        Panel(
            f"Flower    {here.flower_url}\n"
            f"provider  {here.provider_url}  (GET /stats, POST /behaviour)\n"
            f"Kafka     {kafka}\n"
            f"data      {here.stack.folder}  (kept between starts)\n\n"
            f"In another terminal:\n{exports}\n"
            f"cjtasks request submit cjtasks/dev/essays/essay-*.txt\n"
            f"cjtasks batch list\n\n"
            f"Ctrl-C stops all of it.",
            title="cjtasks dev",
            expand=False,
        )
    )


def demo() -> None:
    """Judge one batch of 24 essays on a stack of its own, show it live, and print the ranking.

    The logs of every process stay in .cjtasks/demo/logs.
    """
    folder = home() / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    logs = folder / "logs"
    wanted = Wanted(
        folder=folder,
        procfile=Path("Procfile"),
        sink=folder_sink(logs),
        provider_options=("--set latency=0.6 --set jitter=0.4 --set error_rate=0.01 --set cost_per_call=0.0004",),
        durable=False,
    )
    with ExitStack() as running:
        with console.status("starting Postgres, Valkey, Kafka and every process"):
            here = running.enter_context(cluster(wanted))
        watch_one_batch(here, console)
