from __future__ import annotations

import os
import time
from threading import Event, Timer
from typing import TYPE_CHECKING

import pytest

from cjtasks.dev.processes import Process, Supervisor, folder_sink, read_procfile, terminal_sink
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Lines = list[tuple[str, str]]
FOREVER = "while :; do sleep 0.05; done"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; one that has ended but that nobody has asked about does not."""
    with os.popen(f"ps -o stat= -p {pid}") as answer:  # noqa: S605  A number.
        return answer.read().strip()[:1] not in {"", "Z"}


@pytest.fixture
def lines() -> Lines:
    return []


@pytest.fixture
def supervise(lines: Lines) -> Iterator[Callable[..., Supervisor]]:
    """Give a function that builds a supervisor of name=command; what it started is stopped after the test."""
    supervisors: list[Supervisor] = []

    def build(environment: dict[str, str] | None = None, /, **commands: str) -> Supervisor:
        processes = [Process(name, command) for name, command in commands.items()]
        supervisor = Supervisor(processes, environment, lambda name, line: lines.append((name, line)))
        supervisors.append(supervisor)
        return supervisor

    yield build
    for supervisor in supervisors:
        supervisor.stop(patience=0)


def written(folder: Path, text: str) -> Path:
    path = folder / "Procfile"
    path.write_text(text)
    return path


def test_a_procfile_is_read_in_its_order_with_colons_in_commands_and_without_comments(tmp_path: Path) -> None:
    text = "# all of it\nrelease: alembic upgrade head\n\nrelay:  python -m relay --at=host:1 \n"
    assert read_procfile(written(tmp_path, text)) == [
        Process("release", "alembic upgrade head"),
        Process("relay", "python -m relay --at=host:1"),
    ]


@pytest.mark.parametrize("line", ["just words", "beat:", ": celery beat", "two words: celery beat"])
def test_a_line_that_is_no_name_and_command_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(Misconfigured, match="Procfile, line 2: expected"):
        read_procfile(written(tmp_path, f"relay: python\n{line}\n"))


def test_a_name_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="line 2: `relay` stands there twice"):
        read_procfile(written(tmp_path, "relay: python\nrelay: python\n"))


def test_both_outputs_of_every_process_reach_the_sink_under_its_name(
    supervise: Callable[..., Supervisor], lines: Lines
) -> None:
    supervise(beat="echo tick; echo tock >&2; sleep 60", relay="echo ready; sleep 60").start()
    wait_for(lambda: len(lines) == 3)
    assert sorted(lines) == [("beat", "tick"), ("beat", "tock"), ("relay", "ready")]


def test_a_line_that_is_no_text_is_shown_all_the_same(supervise: Callable[..., Supervisor], lines: Lines) -> None:
    supervise(beat=r"printf '\377 odd\n'; sleep 60").start()
    wait_for(lambda: lines == [("beat", "\ufffd odd")])


def test_the_given_environment_is_added_to_ours(
    supervise: Callable[..., Supervisor], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERITED", "kept")
    supervise({"CJ_ADDED": "new"}, beat="echo $CJ_ADDED $INHERITED; sleep 60").start()
    wait_for(lambda: lines == [("beat", "new kept")])


def test_release_runs_to_its_end_on_request_and_is_not_started_with_the_others(
    supervise: Callable[..., Supervisor], lines: Lines
) -> None:
    supervisor = supervise(release="echo migrated; exit 3", beat="echo tick; sleep 60")
    assert supervisor.release() == 3
    assert lines == [("release", "migrated")]
    supervisor.start()
    wait_for(lambda: len(lines) == 2)
    supervisor.stop()
    assert lines == [("release", "migrated"), ("beat", "tick")]


def test_a_procfile_without_release_is_released_at_once(supervise: Callable[..., Supervisor]) -> None:
    assert supervise(beat="exit 1").release() == 0


def test_stopping_lets_a_process_say_its_last_words(supervise: Callable[..., Supervisor], lines: Lines) -> None:
    supervisor = supervise(beat=f"trap 'echo bye; exit 0' TERM; echo up; {FOREVER}")
    supervisor.start()
    wait_for(lambda: lines == [("beat", "up")])
    supervisor.stop()
    assert lines[-1] == ("beat", "bye")
    assert supervisor.poll() is None


def test_a_process_that_does_not_listen_is_killed_when_patience_ends(
    supervise: Callable[..., Supervisor], lines: Lines
) -> None:
    supervisor = supervise(beat=f"trap '' TERM; echo $$; {FOREVER}")
    supervisor.start()
    wait_for(lambda: bool(lines))
    pid = int(lines[0][1])
    assert is_alive(pid)
    supervisor.stop(patience=0.3)
    assert not is_alive(pid)


def test_a_child_that_outlives_its_parent_is_stopped_too(supervise: Callable[..., Supervisor], lines: Lines) -> None:
    supervisor = supervise(worker="(trap '' TERM; sleep 600) & echo $!; wait")
    supervisor.start()
    wait_for(lambda: bool(lines))
    pid = int(lines[0][1])
    assert is_alive(pid)
    supervisor.stop()
    assert not is_alive(pid)


def test_a_pools_child_is_left_alone_while_its_parent_still_winds_down(
    supervise: Callable[..., Supervisor], lines: Lines
) -> None:
    child = f"(trap 'echo asked; exit' TERM; echo child; {FOREVER}) &"
    parent = f"trap 'sleep 0.5; kill -KILL $child; exit 0' TERM; echo parent; {FOREVER}"
    supervisor = supervise(worker=f"{child} child=$!; {parent}")
    supervisor.start()
    wait_for(lambda: len(lines) == 2)
    supervisor.stop()
    assert ("worker", "asked") not in lines


def test_an_unasked_end_is_told_with_its_code_and_stops_the_others(
    supervise: Callable[..., Supervisor], lines: Lines
) -> None:
    supervisor = supervise(beat=f"echo $$; {FOREVER}", relay="sleep 0.3; exit 7")
    assert supervisor.run(Event()) == ("relay", 7)
    assert ("relay", "ended unasked with code 7: stopping the others") in lines
    (pid,) = (int(line) for name, line in lines if name == "beat")
    assert not is_alive(pid)


def test_a_clean_unasked_end_counts_as_well(supervise: Callable[..., Supervisor]) -> None:
    assert supervise(beat="sleep 60", relay="true").run(Event()) == ("relay", 0)


def test_a_run_that_is_told_to_stop_reports_no_failure(supervise: Callable[..., Supervisor], lines: Lines) -> None:
    stopping = Event()
    timer = Timer(0.5, stopping.set)
    timer.start()
    assert supervise(beat=f"trap 'echo bye; exit 0' TERM; {FOREVER}").run(stopping) is None
    timer.join()
    assert lines == [("beat", "bye")]


def test_the_terminal_shows_each_line_after_a_name_of_equal_width(capsys: pytest.CaptureFixture[str]) -> None:
    show = terminal_sink(["beat", "consumer"])
    show("beat", "\x1b[32m[info]\x1b[0m tick :smile:")
    show("consumer", "x" * 200)
    assert capsys.readouterr().out == f"beat     │ [info] tick :smile:\nconsumer │ {'x' * 200}\n"


def test_a_folder_keeps_one_log_for_each_process(tmp_path: Path) -> None:
    write = folder_sink(tmp_path / "logs")
    write("beat", "one")
    write("relay", "two")
    write("beat", "three")
    assert (tmp_path / "logs" / "beat.log").read_text() == "one\nthree\n"
    assert (tmp_path / "logs" / "relay.log").read_text() == "two\n"
