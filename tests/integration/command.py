"""Running the `cjtasks` command: in this process, as its script does, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import structlog

from cjtasks.cli import main
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from tests.factories import batch_in, comparisons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.store.models import CJBatchState
    from cjtasks.testing import EagerPlatform


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Command: TypeAlias = Callable[..., Said]


@contextmanager
def in_this_process(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run the command in this process, as its script does; nothing is remembered between two runs but the runtime."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: object) -> Said:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["cjtasks", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return Said(int(ended.value.code or 0), printed.out, printed.err)

    yield run
    structlog.reset_defaults()


def process(*args: object, **environment: str) -> Said:
    script = Path(sys.executable).with_name("cjtasks")
    run = subprocess.run(  # noqa: S603 - The words are this test's own.
        [script, *map(str, args)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Said(run.returncode, run.stdout, run.stderr)


def waiting(platform: EagerPlatform, failed: int = 1) -> CJBatchState:
    """Write a batch that waits for one answer and has failed comparisons."""
    with platform.runtime.database.transaction() as session:
        state = batch_in(session, BatchStateEnum.WAITING_CALLBACKS)
        comparisons(session, state, 8, ComparisonStatus.COMPLETED)
        comparisons(session, state, failed, ComparisonStatus.FAILED)
        comparisons(session, state, 1, ComparisonStatus.IN_FLIGHT)
        return state


def assert_one_clear_line(said: Said, *parts: str) -> None:
    assert said.code == 1
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert all(part in said.err for part in ("cjtasks: ", *parts))
    assert not any(word in said.err for word in ("Traceback", "SELECT", "sqlalche", "psycopg2", "UPDATE"))
