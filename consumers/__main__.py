"""`python -m consumers`: run the consumer until SIGTERM."""

from __future__ import annotations

import gc
import signal
import threading

import structlog
from confluent_kafka import KafkaException
from sqlalchemy.exc import DBAPIError

from cjtasks.celery import app
from cjtasks.clients import kafka
from cjtasks.errors import HuleEduError
from cjtasks.ops import logging
from cjtasks.runtime import runtime
from cjtasks.settings import settings_or_exit
from consumers.loop import Loop

log = structlog.get_logger()


def main() -> None:
    settings = settings_or_exit()
    logging.configure(settings.LOG_LEVEL, "consumer")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A frozen Redis must not hold the poll for long; the consumer can do without it.
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "socket_timeout": 1,
        "socket_connect_timeout": 1,
    }
    # What was imported stays for good; the collector need not look at it again with every poll.
    gc.freeze()
    try:
        Loop(runtime(), kafka.consumer(settings), stop).run()
    except (HuleEduError, KafkaException) as error:
        # A supervisor starts us again; what only a person can mend says so again.
        log.critical("the consumer stops", error=str(error))
        raise SystemExit(1) from None
    except DBAPIError as error:
        # Its text quotes SQL; the class and the server's own logs say enough.
        log.critical("the consumer stops", error=type(error).__name__)
        raise SystemExit(1) from None
    finally:
        runtime().database.close()


if __name__ == "__main__":
    main()
