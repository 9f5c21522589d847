"""`cjtasks fake-provider` and `cjtasks fake-content`: the two services that we call, played by small real ones."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - The command line reads the annotation.
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cjtasks.dev import fake_content as content_service
from cjtasks.dev import fake_provider as provider_service
from cjtasks.dev.fake_provider import ProviderBehaviour
from cjtasks.dev.judges import ReplayJudge
from cjtasks.settings import load_settings

Port = Annotated[int, typer.Option(help="The port to listen on.")]
Address = Annotated[str, typer.Option(help="The address to listen on.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the behaviour, like latency=0.5 or error_rate=0.1; may be repeated."),
]
Replay = Annotated[Path | None, typer.Option(help="Answer from a CSV file of winner,loser decisions.", exists=True)]


def fake_provider(
    port: Port = 8080, address: Address = "127.0.0.1", fields: Set = None, replay: Replay = None
) -> None:
    """Judge comparisons like the LLM Provider Service: 202 at once, the verdict later over Kafka.

    Who judges is `--set judge=text` (reads the writing) or `--set judge=latent` (hidden true scores), or the
    file given by --replay. GET /behaviour shows every field, POST /behaviour changes them while it runs,
    GET /stats counts what was asked and answered.
    """
    behaviour = _behaviour(fields or [])
    settings = load_settings()
    sink = provider_service.KafkaSink(settings.KAFKA_BOOTSTRAP_SERVERS, dict(settings.KAFKA_OPTIONS))
    judge = ReplayJudge.from_csv(replay, seed=behaviour.seed) if replay else None
    provider_service.serve(provider_service.FakeProvider(sink, behaviour, judge), port, address)


def _behaviour(fields: list[str]) -> ProviderBehaviour:
    given: dict[str, Any] = dict(field.partition("=")[::2] for field in fields)
    try:
        return ProviderBehaviour(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise typer.BadParameter(f"--set {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def fake_content(
    port: Port = 8000,
    address: Address = "127.0.0.1",
    folder: Annotated[Path | None, typer.Option(help="Serve the .txt files in this folder.", exists=True)] = None,
) -> None:
    """Keep texts in memory like the Content Service."""
    content = content_service.FakeContent.from_folder(folder) if folder else content_service.FakeContent()
    content_service.serve(content, port, address)
