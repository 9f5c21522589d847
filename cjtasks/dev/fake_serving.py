"""What the fake services share: being served, in this thread or another, and changed while they run."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import ValidationError
from tornado.httpserver import HTTPServer
from tornado.ioloop import PeriodicCallback
from tornado.web import RequestHandler

from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from _typeshed import DataclassInstance
    from tornado.web import Application

    Behaviour = TypeVar("Behaviour", bound=DataclassInstance)

POLL_MILLISECONDS = 50
LOCALHOST = "127.0.0.1"


class FakeService(Protocol):
    """A service that can be hosted: its routes, a regular chore on the loop, and its last act."""

    def application(self) -> Application: ...
    def poll(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Opened:
    """The service listens on `port`; `stop` ends it and may be called from any thread."""

    port: int
    stop: Callable[[], object]


async def _host(service: FakeService, address: tuple[str, int], opened: Callable[[Opened], object]) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    server = HTTPServer(service.application())
    listening = socket.create_server(address)
    listening.setblocking(False)
    server.add_socket(listening)
    chore = PeriodicCallback(service.poll, POLL_MILLISECONDS)
    chore.start()
    opened(Opened(listening.getsockname()[1], lambda: loop.call_soon_threadsafe(stopped.set)))
    await stopped.wait()
    chore.stop()
    server.stop()
    await server.close_all_connections()
    service.close()


def serve_until_signal(service: FakeService, port: int, address: str = LOCALHOST) -> None:
    """Serve in this thread until SIGTERM or SIGINT; what was not answered by then never will be."""

    def opened(here: Opened) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, here.stop)

    asyncio.run(_host(service, (address, port), opened))


@contextmanager
def running_in_thread(service: FakeService, port: int = 0) -> Iterator[str]:
    """Serve from a thread with its own loop; yields the root URL, without a slash at its end."""
    opened: Future[Opened] = Future()
    thread = Thread(target=_host_in_thread, args=(service, port, opened), daemon=True)
    thread.start()
    here = opened.result(timeout=10)
    try:
        yield f"http://{LOCALHOST}:{here.port}"
    finally:
        here.stop()
        thread.join()


def _host_in_thread(service: FakeService, port: int, opened: Future[Opened]) -> None:
    try:
        asyncio.run(_host(service, (LOCALHOST, port), opened.set_result))
    except OSError as error:  # The port is taken: the caller waits for this news.
        if opened.done():
            raise
        opened.set_exception(error)


def changed(behaviour: Behaviour, changes: Mapping[str, Any]) -> Behaviour:
    """Return the behaviour with these fields changed; Misconfigured names an unknown or impossible one."""
    try:
        return type(behaviour)(**{**asdict(behaviour), **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise Misconfigured.of(f"{name}: {first['msg']}", operation="behaviour") from error


class JsonRoute(RequestHandler):
    """Answers in JSON on one line, as the platform's services do."""

    def reply(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            self.set_header(name, value)
        self.finish(json.dumps(body))


class StateRoute(JsonRoute):
    """GET shows what `look` returns; POST gives `change` the JSON object that was sent, 400 if refused."""

    def initialize(self, look: Callable[[], object], change: Callable[[Mapping[str, Any]], object]) -> None:
        self.look, self.change = look, change

    def get(self) -> None:
        self.reply(200, self.look())

    def post(self) -> None:
        try:
            changes = json.loads(self.request.body)
            if not isinstance(changes, dict):
                raise Misconfigured.of("a JSON object of fields is needed", operation="behaviour")
            self.change(changes)
        except (ValueError, Misconfigured) as error:
            self.reply(400, {"error": str(error)})
        else:
            self.reply(200, self.look())
