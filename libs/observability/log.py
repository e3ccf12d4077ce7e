"""Structured logs: one JSON object a line in production, readable lines in development, both redacted, on stderr.

Every line carries time, level, service, logger, event and, inside a request, request_id and trace_id. The standard
library's logging (what libraries use) goes through the same redaction, and `extra={"fields": {…}}` becomes fields: that
is how the modules this one stands on log. stdout is left to commands' answers.
"""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import structlog

from libs.observability import context, redact

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("json", "console")

_ORDER = ("time", "level", "service", "logger", "event")
_QUIET = ("asyncio", "botocore", "boto3", "urllib3", "s3transfer", "grpc", "httpx", "sqlalchemy.engine")
Event = MutableMapping[str, Any]


class _Unfailing:
    """A stream whose loss stops nothing: when the reader of our stderr has died, a signal still has to be obeyed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # a broken pipe, a closed file
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure(service: str, format: str, level: str, *, stream: TextIO | None = None) -> None:
    """Send all logging of this process to *stream* (stderr). format: one of FORMATS; level: one of LEVELS."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=(stream or sys.stderr).isatty(), event_key="event")
    shared: list[Any] = [_Stamp(service), _exception, _redact]
    out = cast(TextIO, _Unfailing(stream or sys.stderr))
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Foreign(shared, renderer))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger called *name* (a module's `__name__`); follows `configure` even when it was got before."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(_logger=name))


class _Stamp:
    """Adds who, when and for which request, in the order a reader looks for them."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _: object, level: str, event: Event) -> Event:
        stamped: Event = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "error" if level == "exception" else level,
            "service": self._service,
            "logger": event.pop("_logger", ""),
            "event": event.pop("event", ""),
        }
        for name, variable in (("request_id", context.request_id), ("trace_id", context.trace_id)):
            value = variable.get()
            if value:
                stamped[name] = value
        stamped.update(event)
        return stamped


def _exception(_: object, __: str, event: Event) -> Event:
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()[1]
    elif isinstance(found, tuple):
        found = found[1]
    if isinstance(found, BaseException):
        event.update(redact.exception(found))
    event.pop("stack_info", None)
    return event


def _redact(_: object, __: str, event: Event) -> Event:
    return {name: value if name in _ORDER[:4] else redact.field(name, value) for name, value in event.items()}


class _Foreign(logging.Formatter):
    """Lines of libraries that log through the standard library, with the same fields and the same redaction."""

    def __init__(self, processors: list[Any], renderer: Any) -> None:
        super().__init__()
        self._processors, self._renderer = processors, renderer

    def format(self, record: logging.LogRecord) -> str:
        event: Event = {"_logger": record.name, "event": record.getMessage(), "exc_info": record.exc_info}
        event.update(getattr(record, "fields", {}))
        level = record.levelname.lower()
        for processor in self._processors:
            event = processor(None, level, event)
        return str(self._renderer(None, level, event))
