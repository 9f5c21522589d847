from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from cjtasks.dev.kafka import broker_available
from cjtasks.dev.servers import Launch, free_port, home, listens, run, serving
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_kept_between_starts_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CJTASKS_HOME", str(tmp_path / "kept"))
    assert home() == tmp_path / "kept"
    monkeypatch.delenv("CJTASKS_HOME")
    monkeypatch.chdir(tmp_path)
    assert home() == tmp_path / ".cjtasks"


def test_an_old_java_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert broker_available() == f"Kafka needs Java 17 or newer, and {java} is version 11"


def test_a_program_that_fails_is_told_with_its_code_and_last_words(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"initdb failed: it ended with code 4; .*says:\nno room"):
        run(Launch("initdb", ("/bin/sh", "-c", "echo no room >&2; exit 4")), tmp_path / "initdb.log")


def test_a_server_is_used_only_once_it_answers(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import socket, sys, time; time.sleep(0.5)\n"
        "server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while True: server.accept()[0].close()"
    )
    launch = Launch("late", (sys.executable, "-c", program, str(port)))
    with serving(launch, tmp_path / "late.log", lambda: listens(port)):
        assert listens(port)
    assert not listens(port)
