"""A provider in a process of its own that takes comparisons and answers nobody: only the sending is measured."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

import requests

from cjtasks.dev.fake_provider import API, FakeProvider, ProviderBehaviour, serve
from cjtasks.dev.servers import free_port, listens

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTING_SECONDS = 20.0


@dataclass(frozen=True)
class Provider:
    root: str
    pid: int

    @property
    def url(self) -> str:
        return f"{self.root}{API}"

    def becomes(self, accept_delay: float) -> None:
        """Hold back the answer to each request for so long, in seconds."""
        requests.post(f"{self.root}/behaviour", json={"accept_delay": accept_delay}, timeout=10).raise_for_status()


@contextmanager
def provider() -> Iterator[Provider]:
    port = free_port()
    process = get_context("spawn").Process(target=_serve, args=(port,))
    process.start()
    try:
        _wait_for(port)
        yield Provider(f"http://127.0.0.1:{port}", process.pid or 0)
    finally:
        process.terminate()
        process.join()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while not listens(port):
        if time.monotonic() > deadline:
            raise RuntimeError("the fake provider does not listen")
        time.sleep(0.05)


def _serve(port: int) -> None:
    serve(FakeProvider(lambda _topic, _payload: None, ProviderBehaviour(lost_rate=1.0)), port)
