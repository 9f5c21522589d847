"""`cjtasks fake-provider` and `cjtasks fake-content`: the two services that we call, played by small real ones."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cjtasks.dev import fake_content as content_service
from cjtasks.dev import fake_provider as provider_service
from cjtasks.dev.fake_provider import ProviderBehaviour
from cjtasks.dev.judges import Judge, LatentJudge, ReplayJudge, Temperament
from cjtasks.errors import Misconfigured
from cjtasks.settings import load_settings

Port = Annotated[int, typer.Option(help="The port to listen on.")]
Address = Annotated[str, typer.Option(help="The address to listen on.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the behaviour, like latency=0.5 or error_rate=0.1; may be repeated."),
]
Replay = Annotated[Path | None, typer.Option(help="Answer from a CSV file of winner,loser decisions.", exists=True)]
Latent = Annotated[
    str | None,
    typer.Option(
        help="Judge by hidden true scores: spread, side, lapse and scores (a CSV file of essay,score in logits), "
        "like spread=2,side=0.4,lapse=0.03."
    ),
]


def fake_provider(
    port: Port = 8080,
    address: Address = "127.0.0.1",
    fields: Fields = None,
    replay: Replay = None,
    latent: Latent = None,
) -> None:
    """Judge comparisons like the LLM Provider Service: 202 at once, the verdict later over Kafka.

    Who judges is the text itself (the default), --latent, or --replay. GET /behaviour shows every field of the
    behaviour, POST /behaviour changes them while it runs, GET /stats counts what was asked and answered.
    """
    behaviour = _behaviour(fields or [])
    settings = load_settings()
    options = {name: value for name, value in settings.KAFKA_OPTIONS.items() if isinstance(value, (str, int))}
    sink = provider_service.KafkaSink(settings.KAFKA_BOOTSTRAP_SERVERS, options)
    provider_service.serve(
        provider_service.FakeProvider(sink, behaviour, _judge(behaviour, replay, latent)), port, address
    )


def _behaviour(fields: list[str]) -> ProviderBehaviour:
    given: dict[str, Any] = _pairs(fields)
    try:
        return ProviderBehaviour(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise typer.BadParameter(f"--set {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _judge(behaviour: ProviderBehaviour, replay: Path | None, latent: str | None) -> Judge | None:
    if replay is not None:
        return ReplayJudge.from_csv(replay)
    return None if latent is None else _latent(_pairs(latent.split(",")), behaviour.seed)


def _latent(given: dict[str, str], seed: int) -> LatentJudge:
    unknown = set(given) - {"spread", "side", "lapse", "scores"}
    if unknown:
        raise typer.BadParameter(f"--latent: {', '.join(sorted(unknown))} is none of spread, side, lapse, scores")
    scores = _scores(Path(given["scores"])) if "scores" in given else {}
    try:
        temperament = Temperament(side=float(given.get("side", 0)), lapse=float(given.get("lapse", 0)), seed=seed)
        return LatentJudge(scores, spread=float(given.get("spread", 2)), seed=seed, temperament=temperament)
    except ValueError as error:
        raise typer.BadParameter(f"--latent: {error}") from None


def _scores(path: Path) -> dict[str, float]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return {row["essay"]: float(row["score"]) for row in csv.DictReader(lines)}
    except (OSError, KeyError, ValueError) as error:
        raise Misconfigured.of(f"{path}: expected a header essay,score: {error}", operation="read_scores") from None


def _pairs(fields: list[str]) -> dict[str, str]:
    pairs = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals:
            raise typer.BadParameter(f"expected name=value, not {field}")
        pairs[name.strip()] = value.strip()
    return pairs


def fake_content(
    port: Port = 8000,
    address: Address = "127.0.0.1",
    folder: Annotated[Path | None, typer.Option(help="Serve the .txt files in this folder.", exists=True)] = None,
) -> None:
    """Keep texts in memory like the Content Service."""
    content = content_service.FakeContent.from_folder(folder) if folder else content_service.FakeContent()
    content_service.serve(content, port, address)
