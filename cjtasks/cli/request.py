"""`cjtasks request`: ask for a batch, as the platform would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import requests
import typer

from cjtasks.clients import kafka
from cjtasks.dev.requests import BatchRequest
from cjtasks.errors import Misconfigured, Retryable
from cjtasks.runtime import utc_now
from cjtasks.settings import Settings, load_settings

app = typer.Typer(help="Ask for batches.", no_args_is_help=True)

Texts = Annotated[list[Path], typer.Argument(help="One text file an essay; the name is its id.", exists=True)]
Prompt = Annotated[Path | None, typer.Option(help="A text file with the students' assignment.", exists=True)]
Most = Annotated[int | None, typer.Option(help="The most comparisons to pay for.", min=1)]


@app.callback()
def _request() -> None:
    """Keep `submit` a subcommand."""


@app.command()
def submit(files: Texts, prompt: Prompt = None, max_comparisons: Most = None) -> None:
    """Store the texts in the Content Service and ask for a batch of them; prints the batch id."""
    settings = load_settings()
    essays = {path.stem: path.read_text(encoding="utf-8") for path in files}
    if len(essays) < len(files):
        raise Misconfigured.of("two files have the same name", operation="submit")
    text = prompt.read_text(encoding="utf-8") if prompt else None
    typer.echo(ask_for(settings, essays, text, max_comparisons))


def ask_for(settings: Settings, essays: dict[str, str], prompt: str | None, most: int | None = None) -> str:
    """Store texts (essay id to text), publish the request, and return the platform's batch id."""
    storage_ids = {essay_id: store(settings, text) for essay_id, text in essays.items()}
    request = BatchRequest(storage_ids, store(settings, prompt) if prompt else None, max_comparisons=most)
    producer = kafka.producer(settings, "cli")
    producer.produce(settings.REQUEST_TOPIC, value=request.payload(utc_now()), key=request.batch_id)
    if producer.flush(20):
        raise Retryable.of("Kafka did not take the request in time", operation="submit")
    return request.batch_id


def store(settings: Settings, text: str) -> str:
    """Store one text and return its storage id."""
    try:
        response = requests.post(settings.CONTENT_SERVICE_URL, data=text.encode(), timeout=10)
        response.raise_for_status()
        return str(response.json()["storage_id"])
    except requests.RequestException as error:
        where = settings.CONTENT_SERVICE_URL
        raise Retryable.of(
            f"the Content Service at {where} took no text: {type(error).__name__}", operation="submit"
        ) from None
