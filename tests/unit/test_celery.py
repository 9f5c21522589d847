"""The Celery app as a whole: every task has a queue that somebody serves, and Redis carries nothing but ids."""

from __future__ import annotations

import ast
import gc
import inspect
import shlex
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from celery import Celery, signals
from celery.exceptions import QueueNotFound

from cjtasks import tasks
from cjtasks.celery import PERIODIC, TASKS, StepTask, app
from cjtasks.dev.processes import read_procfile
from cjtasks.domain.states import Work
from cjtasks.errors import Misconfigured, StepFailed
from cjtasks.worker import GuardedConsumer

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"

OURS = sorted(name for name in app.tasks if name.startswith("cjtasks."))


def served() -> list[str]:
    """Every queue that a process of the Procfile serves, as often as it is served."""
    commands = [shlex.split(process.command) for process in read_procfile(PROCFILE)]
    workers = [words for words in commands if "worker" in words and "celery" in words]
    return [queue for words in workers for queue in words[words.index("-Q") + 1].split(",")]


def declared() -> list[str]:
    return [queue.name for queue in app.conf.task_queues]


def test_the_queues_declared_routed_and_served_are_the_same() -> None:
    routed = {route["queue"] for route in app.conf.task_routes.values()}
    assert sorted(declared()) == sorted(served()) == sorted(routed)
    assert app.conf.task_default_queue in declared()


def test_every_task_of_ours_is_routed_and_every_route_leads_to_a_task() -> None:
    assert OURS
    assert set(app.conf.task_routes) == set(OURS)


def test_every_kind_of_work_has_a_task() -> None:
    assert set(TASKS) == set(Work)
    assert {name for name, _ in TASKS.values()} | set(PERIODIC) == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_router_sends_a_task_where_its_bell_says(name: str) -> None:
    by_bell = dict([*TASKS.values(), *PERIODIC.items()])
    assert app.amqp.router.route({}, name)["queue"].name == by_bell[name]


def test_no_queue_appears_for_a_misspelt_name() -> None:
    with pytest.raises(QueueNotFound, match="misspelt"):
        app.amqp.router.route({"queue": "misspelt"}, "cjtasks.inbox")


def test_queues_use_the_direct_exchange_that_a_wiped_redis_cannot_forget() -> None:
    for queue in app.conf.task_queues:
        assert (queue.exchange.name, queue.exchange.type, queue.routing_key) == ("", "direct", queue.name)


def test_messages_are_json_and_nothing_else_is_read() -> None:
    assert app.conf.task_serializer == "json"
    assert app.conf.accept_content == ["json"]


def test_there_is_no_result_backend() -> None:
    assert type(app.backend).__name__ == "DisabledBackend"
    assert app.conf.task_ignore_result is True


@pytest.mark.parametrize("name", OURS)
def test_a_task_takes_nothing_but_ids(name: str) -> None:
    parameters = inspect.signature(app.tasks[name].run).parameters
    hints = get_type_hints(app.tasks[name].run)
    assert {parameter: hints[parameter] for parameter in parameters} in ({}, {"batch_id": int})


def test_every_task_is_ten_lines_at_most() -> None:
    functions = [node for node in ast.parse(inspect.getsource(tasks)).body if isinstance(node, ast.FunctionDef)]
    assert {f.name for f in functions if (f.end_lineno or f.lineno) - f.lineno >= 10} == set()


@pytest.mark.parametrize("name", sorted(app.conf.beat_schedule))
def test_what_the_beat_rings_expires_before_it_is_rung_again(name: str) -> None:
    entry = app.conf.beat_schedule[name]
    assert 0 < entry["options"]["expires"] <= entry["schedule"].total_seconds()
    assert entry["task"] in PERIODIC


def test_the_beat_rings_every_periodic_task() -> None:
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} == set(PERIODIC)


def test_time_limits_end_a_task_before_its_message_is_given_to_another() -> None:
    assert app.conf.task_soft_time_limit < app.conf.task_time_limit
    assert app.conf.task_time_limit < app.conf.broker_transport_options["visibility_timeout"]


def test_a_worker_never_gives_up_on_redis() -> None:
    assert app.conf.broker_connection_max_retries is None
    assert app.conf.broker_connection_retry_on_startup is True
    assert app.conf.broker_channel_error_retry is True


def test_the_worker_takes_events_only_where_they_are_cheap() -> None:
    commands = {process.name: shlex.split(process.command) for process in read_procfile(PROCFILE)}
    assert {name for name, words in commands.items() if "-E" in words} == {"scorer", "submitter"}
    assert "--enable_events=False" in commands["flower"]


@pytest.mark.filterwarnings("ignore:.*cancel.*:PendingDeprecationWarning")
def test_the_guarded_consumer_survives_what_its_parent_raises() -> None:
    consumer = GuardedConsumer.__new__(GuardedConsumer)
    # A consumer whose connection is in no state to be dropped: the parent fails on it.
    consumer.connection = object()
    consumer.on_connection_error_after_connected(ConnectionError("gone"))
    assert consumer.connection is None


def test_the_worker_uses_the_guarded_consumer() -> None:
    assert app.conf.worker_consumer == f"{GuardedConsumer.__module__}:{GuardedConsumer.__name__}"


def failing(error: Exception) -> Any:
    def step() -> None:
        raise error

    return Celery("test", task_cls=StepTask, set_as_current=False).task(name="step")(step)


def test_an_errors_own_text_does_not_leave_the_task() -> None:
    with pytest.raises(StepFailed) as caught:
        failing(ValueError("an essay's text"))()
    assert "essay" not in str(caught.value)
    assert "ValueError" in str(caught.value)
    assert caught.value.__cause__ is None


def test_our_own_errors_leave_the_task_as_they_are() -> None:
    error = Misconfigured.of("which setting is wrong", operation="test")
    with pytest.raises(Misconfigured) as caught:
        failing(error)()
    assert caught.value is error


def test_a_childs_collector_leaves_out_what_was_imported() -> None:
    try:
        signals.worker_process_init.send(sender=None)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
    assert gc.get_freeze_count() == 0
