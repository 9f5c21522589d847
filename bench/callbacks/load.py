"""The load, a process of its own: answers offered at a steady rate, however slowly they are taken.

python -m bench.callbacks.load RATE COUNT: prints READY, waits for a line, prints when it began, then offers.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer
from sqlalchemy import text

from bench.callbacks.seed import BATCHES
from bench.callbacks.wire import Answer, Asked, Judge
from cjtasks.settings import settings
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cjtasks.settings import Settings

READY = "ready"
SHORTEST_SLEEP = 0.001
SEED = 7

# Each batch has a hundred comparisons in flight, answered in no order; the batches are mixed evenly.
_QUESTIONS = text(
    """
    SELECT request_correlation_id::text, request_id, cj_batch_id FROM cj_comparison_pairs
    WHERE status = 'in_flight' AND cj_batch_id <= :batches ORDER BY ordinal + 100 * random() LIMIT :count
    """
)


def main(rate: float, count: int) -> None:
    chosen = settings()
    answers = _answers(chosen, count)
    producer = Producer(
        {
            "bootstrap.servers": chosen.KAFKA_BOOTSTRAP_SERVERS,
            "enable.idempotence": True,
            "linger.ms": 1,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.list_topics(chosen.LLM_PROVIDER_CALLBACK_TOPIC, timeout=10)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    _offer(producer, chosen.LLM_PROVIDER_CALLBACK_TOPIC, answers, rate)
    if producer.flush(60):
        raise SystemExit("Kafka did not take every answer")


def _answers(chosen: Settings, count: int) -> list[Answer]:
    """Write every answer beforehand, so that the load takes as little of the machine as it can."""
    judge, database = Judge(SEED), Database(chosen.DATABASE_URL)
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        asked = [Asked(*row) for row in session.execute(_QUESTIONS, {"count": count, "batches": BATCHES})]
    database.close()
    # To write them all takes longer than a transaction may stand idle on a busy machine.
    answers = [judge.answer(one) for one in asked]
    gc.freeze()
    return answers


def _offer(producer: Producer, topic: str, answers: Sequence[Answer], rate: float) -> None:
    began = time.time()
    sys.stdout.write(json.dumps({"began": began}) + "\n")
    sys.stdout.flush()
    for number, answer in enumerate(answers):
        due = began + number / rate
        while (now := time.time()) < due:
            producer.poll(0)
            time.sleep(max(due - now, SHORTEST_SLEEP))
        producer.produce(topic, answer.sent_at(now))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
