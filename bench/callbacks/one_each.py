"""One Celery task for each callback, the message in its argument: the usual form, which the product is compared with.

Kafka's offsets move before the task has run, so this form loses answers when Redis or a worker dies.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_END

from cjtasks import bells
from cjtasks.celery import ANSWERS, app
from cjtasks.clients import kafka
from cjtasks.ops import logging
from cjtasks.runtime import runtime
from cjtasks.settings import settings
from cjtasks.steps import answers
from cjtasks.store.inbox import Message

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition

TASK = "bench.record_one"
MOST_A_POLL = 500


@app.task(name=TASK)
def record_one(payload: str) -> None:
    here = runtime()
    message = Message(here.settings.LLM_PROVIDER_CALLBACK_TOPIC, 0, 0, payload.encode(), here.clock())
    with here.database.transaction() as session:
        wanted = answers.record(here, session, [message])
    bells.ring(wanted)


def _start_at_the_end(consumer: Consumer, partitions: list[TopicPartition]) -> None:
    for partition in partitions:
        partition.offset = OFFSET_END
    consumer.incremental_assign(partitions)


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    logging.configure(settings().LOG_LEVEL, "one-each")
    consumer = kafka.consumer(settings())
    consumer.subscribe([settings().LLM_PROVIDER_CALLBACK_TOPIC], on_assign=_start_at_the_end)
    while not stop.is_set():
        for message in consumer.consume(MOST_A_POLL, 0.05):
            if message.error() is None:
                app.send_task(TASK, ((message.value() or b"").decode(),), queue=ANSWERS, ignore_result=True)
    consumer.close()


if __name__ == "__main__":
    main()
