"""Comparative Judgement for a whole platform: batches of essays in, scores and ranks out.

A request arrives on Kafka; the consumer stores it in the inbox; a worker opens the batch. Its texts are
fetched, pairs are planned, and each pair is sent to the LLM Provider, which says 202. The verdicts come back
over Kafka into the same inbox and are recorded under the lock of their batch. When an iteration is complete
the batch is fitted; it asks more or is scored. Scores, ranks and the closing events are written in one
transaction, and the relay publishes the events. Celery carries only bells, and Postgres says what is due:
whatever is lost on the way is rung again.

contracts  what crosses the wire             store    tables, transactions, inbox and outbox
domain     pure rules: states, decisions,    steps    a batch's life, a module a step
           pairing, scores, reliability      clients  the services that we call
tasks      every Celery task                 relay    outbox to Kafka
ops        logging                           cli, dev the `cjtasks` command and the stack on one machine
research   files, reports, simulation
"""
