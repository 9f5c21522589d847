"""The `cjtasks` command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage."""

from __future__ import annotations

import logging
import sys

import structlog
import typer
from confluent_kafka import KafkaException
from sqlalchemy.exc import DBAPIError

from cjtasks.cli import batch, dead_letters, dev, fakes, operate, request, score, simulate, topics
from cjtasks.errors import HuleEduError

app = typer.Typer(
    name="cjtasks",
    help="Comparative Judgement for a whole platform.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(topics.app, name="topics")
app.add_typer(request.app, name="request")
app.add_typer(batch.app, name="batch")
app.add_typer(dead_letters.app, name="dead-letters")
batch.app.command()(operate.cancel)
batch.app.command()(operate.retry)
batch.app.command()(operate.recount)
batch.app.command(name="explain")(operate.explain_batch)
app.command()(score.score)
app.command()(simulate.simulate)
app.command(name="dev")(dev.dev)
app.command(name="demo")(dev.demo)
app.command(name="fake-provider")(fakes.fake_provider)
app.command(name="fake-content")(fakes.fake_content)


def main() -> None:
    """Run the command; what went wrong is told in one line, without a stack trace."""
    _log_to_stderr()
    try:
        app()
    except HuleEduError as error:
        _fail(error.error_detail.message)
    except KafkaException as error:
        _fail(f"Kafka: {error.args[0].str()}")
    except DBAPIError as error:
        # Only the server's own first line: the rest quotes SQL and its parameters.
        _fail(f"Postgres: {str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else 'no answer'}")


def _log_to_stderr() -> None:
    """Leave stdout to what was asked for, because scripts read it."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _fail(message: str) -> None:
    typer.secho(f"cjtasks: {message}", err=True, fg=typer.colors.RED)
    sys.exit(1)
