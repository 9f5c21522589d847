"""A small HTTP server that answers as a test tells it, also by saying nothing or hanging up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Told: TypeAlias = Answer | Callable[["Service"], Answer | None]


class Service:
    """Answers every request with `told`; None from a function hangs up without a word."""

    def __init__(self) -> None:
        self.told: Told = Answer(500)
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.ended = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/base"

    def answer(self) -> Answer | None:
        return self.told if isinstance(self.told, Answer) else self.told(self)

    def hang(self, _: Service | None = None) -> Answer | None:
        """Say nothing until the test is over."""
        self.ended.wait(20)
        return None


class _Route(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def _reply(self) -> None:
        self.service.paths.append(self.path)
        self.service.headers.append(dict(self.headers))
        self.service.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        answer = self.service.answer()
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


class _Server(ThreadingHTTPServer):
    # With the library's five, connections that come together wait for the network to try again.
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def serving() -> Iterator[Service]:
    told = Service()
    route = type("_Told", (_Route,), {"service": told})
    with _Server(("127.0.0.1", 0), route) as server:
        told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        told.ended.set()
        server.shutdown()
        thread.join()
