"""JSON lines on stdout, one an event, the same in every process."""

from __future__ import annotations

import logging
import sys

import structlog

_SHARED = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure(level: str, process: str) -> None:
    """Send our lines and those of the libraries to stdout as JSON; `process` names who speaks."""
    structlog.contextvars.bind_contextvars(process=process)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_exception_text,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [lines]
    root.setLevel(level)
    # These say at INFO what they do for each message.
    for noisy in ("celery.app.trace", "celery.worker.strategy", "urllib3", "kombu"):
        logging.getLogger(noisy).setLevel(max(logging.getLevelName(level), logging.WARNING))


def _without_exception_text(
    _logger: logging.Logger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Keep where an error arose and its class; its text may hold SQL with its parameters."""
    info = event.pop("exc_info", None)
    if isinstance(info, tuple) and info[0] is not None:
        event["exception"] = info[0].__name__
        event["where"] = _frames(info[2])
    return event


def _frames(traceback: object) -> list[str]:
    frames: list[str] = []
    while traceback is not None and len(frames) < 20:
        code = traceback.tb_frame.f_code  # type: ignore[attr-defined]
        frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{traceback.tb_lineno} {code.co_name}")  # type: ignore[attr-defined]
        traceback = traceback.tb_next  # type: ignore[attr-defined]
    return frames[-6:]
