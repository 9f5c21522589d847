"""`cjtasks topics`: the topics that we need, and where the inbox goes on in them."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import delete

from cjtasks.clients import kafka
from cjtasks.errors import Misconfigured
from cjtasks.settings import load_settings
from cjtasks.store.models import KafkaPosition
from cjtasks.store.session import Database

app = typer.Typer(help="The Kafka topics that cjtasks reads and writes.", no_args_is_help=True)


@app.callback()
def _topics() -> None:
    """Keep `ensure` a subcommand."""


@app.command()
def ensure(
    replication: Annotated[int, typer.Option(help="Copies of each partition; 3 in production.", min=1)] = 1,
) -> None:
    """Create the topics that are missing; running it again changes nothing."""
    created = kafka.ensure_topics(load_settings(), replication)
    typer.echo(f"created {', '.join(created)}" if created else "every topic is there")


@app.command(name="forget-position")
def forget_position(topic: str, partition: int) -> None:
    """Go on from the start of what Kafka holds, after a topic was made anew or its retention has passed.

    Messages between the old position and that start are lost to us; answers to them are asked for again.
    """
    database = Database(load_settings().DATABASE_URL)
    with database.transaction() as session:
        gone = session.execute(
            delete(KafkaPosition)
            .where(KafkaPosition.topic == topic, KafkaPosition.partition == partition)
            .returning(KafkaPosition.next_offset)
        ).first()
    database.close()
    if gone is None:
        raise Misconfigured.of(f"no position of {topic}[{partition}] is stored", operation="forget_position")
    typer.echo(f"{topic}[{partition}] is read from its start; it stood at {gone[0]}")
