"""The Celery app: queues, routes, the beat, and every setting with the failure that it prevents.

Redis is a doorbell here. Whatever it loses is rung again from Postgres, so nothing is asked of it but speed.
`celery -A cjtasks` finds this app.
"""

from __future__ import annotations

import gc
from datetime import timedelta

import structlog
from celery import Celery, Task, signals
from kombu import Exchange, Queue

from cjtasks.domain.states import Work
from cjtasks.errors import HuleEduError, StepFailed
from cjtasks.ops import logging
from cjtasks.settings import Settings, settings, settings_or_exit

log = structlog.get_logger()

ANSWERS, BATCHES, HOUSEKEEPING, CONTENT, SUBMISSIONS = "answers", "batches", "housekeeping", "content", "submissions"
QUEUES = (ANSWERS, BATCHES, HOUSEKEEPING, CONTENT, SUBMISSIONS)

TASKS: dict[Work, tuple[str, str]] = {
    Work.INBOX: ("cjtasks.inbox", ANSWERS),
    Work.PREPARE: ("cjtasks.prepare", CONTENT),
    Work.ADVANCE: ("cjtasks.advance", BATCHES),
    Work.SUBMIT: ("cjtasks.submit", SUBMISSIONS),
    Work.CHECK: ("cjtasks.check", HOUSEKEEPING),
    Work.PARTIAL: ("cjtasks.partial", BATCHES),
    Work.SCORE: ("cjtasks.score", BATCHES),
}
"""The task and the queue of each kind of work."""

PERIODIC = {"cjtasks.sweep": HOUSEKEEPING, "cjtasks.monitor": HOUSEKEEPING, "cjtasks.clean": HOUSEKEEPING}


def configuration(chosen: Settings) -> dict[str, object]:
    return {**_messages(), **_tasks(chosen), **_workers(), **_broker(chosen), **_beat(chosen)}


def _messages() -> dict[str, object]:
    return {
        "imports": ("cjtasks.tasks",),
        # Results would fill Redis and leak subscriptions; what a task did stands in Postgres.
        "result_backend": None,
        "task_ignore_result": True,
        # Pickle lets whoever can write to Redis run any code.
        "task_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        # Direct exchanges only: with named ones a wiped Redis drops messages silently.
        "task_queues": [Queue(name, Exchange(""), routing_key=name) for name in QUEUES],
        "task_default_queue": HOUSEKEEPING,
        "task_default_exchange": "",
        "task_default_exchange_type": "direct",
        # A misspelt queue would otherwise be created, and nobody would serve it.
        "task_create_missing_queues": False,
        "task_routes": {name: {"queue": queue} for name, queue in [*TASKS.values(), *PERIODIC.items()]},
    }


def _tasks(chosen: Settings) -> dict[str, object]:
    return {
        "task_always_eager": chosen.TASK_ALWAYS_EAGER,
        # An eager task that fails must fail the test that ran it.
        "task_eager_propagates": True,
        # A message lost with its worker costs a sweep; acknowledging late makes that rarer.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # The inbox row and the state row carry the retry, so a failed task must not come back by itself.
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        # Longer than every database time-out, shorter than the visibility time-out, else a task runs twice.
        "task_soft_time_limit": 60,
        "task_time_limit": 90,
    }


def _workers() -> dict[str, object]:
    return {
        # Tasks are short and group their own work: a worker that hoards messages starves the others.
        "worker_prefetch_multiplier": 1,
        "worker_disable_rate_limits": True,
        # Memory that a library leaks goes back with the child.
        "worker_max_tasks_per_child": 10_000,
        "worker_max_memory_per_child": 400_000,
        # On SIGQUIT finish what runs; on SIGTERM Celery waits anyway.
        "worker_soft_shutdown_timeout": 10.0,
        # Our own logging stays as it is, and nobody's output is rewritten.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Celery 5.7 can die or hang when Redis restarts while a message is unacknowledged.
        "worker_consumer": "cjtasks.worker:GuardedConsumer",
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _broker(chosen: Settings) -> dict[str, object]:
    return {
        "broker_url": chosen.REDIS_URL,
        # Without these a worker gives up after 100 tries, or when Redis is late at start, or read-only.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        # Flower asks workers from twenty threads that hold two connections each; a smaller pool locks them up for
        # ever. Others open only what they need.
        "broker_pool_limit": 64,
        "broker_pool_acquire_timeout": 2,
        "broker_transport_options": {
            # A killed worker's messages come back after this, not after an hour.
            "visibility_timeout": 300,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 2,
            # A frozen Redis would otherwise hold the caller for half a minute.
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # A closed port would otherwise be tried again for six seconds, and whoever rings has better things to do.
            "max_retries": 1,
            "interval_start": 0,
            # Two programs on one Redis must not read each other's queues.
            "global_keyprefix": "cjtasks:",
        },
    }


def _beat(chosen: Settings) -> dict[str, object]:
    return {
        "beat_schedule": _schedule(chosen),
        # The schedule is short and idempotent; a file of it would only go stale.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 1,
    }


def _schedule(chosen: Settings) -> dict[str, dict[str, object]]:
    """Each entry expires before its next run, so that a stopped worker does not find a pile of them."""
    every = {
        "cjtasks.sweep": timedelta(seconds=1),
        "cjtasks.monitor": timedelta(minutes=chosen.BATCH_MONITOR_INTERVAL_MINUTES),
        "cjtasks.clean": timedelta(hours=1),
    }
    return {
        name: {"task": name, "schedule": interval, "options": {"expires": interval.total_seconds()}}
        for name, interval in every.items()
    }


class StepTask(Task):  # type: ignore[type-arg]
    """The edge of a task: an error's own text may hold SQL or what an essay says, and must not reach events or logs."""

    def __call__(self, *args: int) -> None:
        try:
            self.run(*args)
        except HuleEduError:
            raise
        except Exception as error:
            if self.app.conf.task_always_eager:
                raise
            log.exception("step failed", task=self.name, args=args)
            raise StepFailed.of(type(error).__name__, operation=self.name) from None


app = Celery("cjtasks", set_as_current=True, task_cls=StepTask)
app.config_from_object(configuration(settings_or_exit()))


_process = "beat"


@signals.celeryd_init.connect
def _name_process(sender: str, **_: object) -> None:
    """Log as worker, scorer or submitter: the first part of the node's name."""
    global _process  # noqa: PLW0603 - Celery tells the name before it asks for logging, in two signals.
    _process = sender.partition("@")[0].partition("-")[0]


@signals.worker_process_init.connect
def _spare_the_collector(**_: object) -> None:
    """Leave what was imported out of every collection: it stays for good, and to look at it takes a tenth of a step."""
    gc.freeze()


@signals.setup_logging.connect
def _log_as_json(**_: object) -> None:
    """Keep Celery from setting up its own logging; every process of ours writes the same lines."""
    logging.configure(settings().LOG_LEVEL, _process)
