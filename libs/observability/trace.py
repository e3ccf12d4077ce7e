"""Traces: exported over OTLP/HTTP when an endpoint is configured, otherwise only the caller's trace id is carried on.

The OpenTelemetry SDK is imported on first need, so a process without an endpoint never pays for it. New traces are kept
with the configured share (10 % by default), a caller's decision is followed. Attributes pass the same redaction as log
fields; bodies and exception texts never become attributes. Source: W3C Trace Context; requirement O6.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

from libs.observability import context, names, redact

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as SdkSpan

Attribute = str | int | float | bool
Kind = Literal["server", "client", "internal", "producer", "consumer"]
MAX_ATTRIBUTE = 200
SHUTDOWN_SECONDS = 5.0

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Span(Protocol):
    """One piece of work inside a trace."""

    def set(self, name: str, value: Attribute) -> None:
        """Add an attribute, redacted and at most MAX_ATTRIBUTE characters."""

    def fail(self, error_type: str) -> None:
        """Mark the work as failed; error_type: a code or class name, never a text."""


class Tracer(Protocol):
    """Opens spans. Also a libs.process Part: `stop` sends what is still held."""

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        traceparent: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> AbstractContextManager[Span]:
        """A span for the block, child of *traceparent* (the caller's header) or of the span around it.

        Sets context.trace_id and context.traceparent within the block.
        """

    async def start(self) -> None:
        """Nothing: spans may be opened before."""

    def refuse(self) -> None:
        """Nothing."""

    async def drain(self, seconds: float) -> None:
        """Nothing: running work still opens spans."""

    async def stop(self) -> None:
        """Send what is held, within SHUTDOWN_SECONDS."""


def configure(service: str, endpoint: str, *, ratio: float = 0.1) -> Tracer:
    """The tracer of this process. endpoint: base URL of an OTLP/HTTP collector, "" for none. ratio: share kept."""
    return _Exporting(service, endpoint, ratio) if endpoint else Off()


def trace_id(traceparent: str) -> str:
    """The trace id in a W3C traceparent header; "" when it is malformed or all zero."""
    found = _PARENT.fullmatch(traceparent)
    return "" if found is None or not int(found[1], 16) or not int(found[2], 16) else found[1]


class _Silent:
    __slots__ = ()

    def set(self, name: str, value: Attribute) -> None:
        pass

    def fail(self, error_type: str) -> None:
        pass


_SILENT = _Silent()


class _Carried:
    """Carries the caller's ids through a block; a class because a generator would cost three times as much."""

    __slots__ = ("_parent", "_tokens", "_trace")

    def __init__(self, traceparent: str) -> None:
        self._trace = trace_id(traceparent) if traceparent else ""
        self._parent = traceparent

    def __enter__(self) -> Span:
        if self._trace:
            self._tokens = (context.trace_id.set(self._trace), context.traceparent.set(self._parent))
        return _SILENT

    def __exit__(self, *_: object) -> None:
        if self._trace:
            context.trace_id.reset(self._tokens[0])
            context.traceparent.reset(self._tokens[1])


class _Life:
    """The life of a tracer that holds nothing."""

    async def start(self) -> None:
        """Nothing."""

    def refuse(self) -> None:
        """Nothing."""

    async def drain(self, seconds: float) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


class Off(_Life):
    """No traces of our own; a caller's trace id still reaches logs, audit rows and onward calls."""

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        traceparent: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> AbstractContextManager[Span]:
        """Carry *traceparent*; nothing else."""
        return _Carried(traceparent)


class _SdkSpan:
    __slots__ = ("_span",)

    def __init__(self, span: "SdkSpan") -> None:
        self._span = span

    def set(self, name: str, value: Attribute) -> None:
        self._span.set_attribute(name, _clean(name, value))

    def fail(self, error_type: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute(names.ERROR_TYPE, _clean(names.ERROR_TYPE, error_type))
        self._span.set_status(StatusCode.ERROR)


# Not an Off: libs.rpc.stages opens no spans for that one.
class _Exporting(_Life):
    def __init__(self, service: str, endpoint: str, ratio: float, exporter: "SpanExporter | None" = None) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create({names.SERVICE_NAME: service}),
            shutdown_on_exit=False,
        )
        exporter = exporter or OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=SHUTDOWN_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("holdfast")

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        traceparent: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> AbstractContextManager[Span]:
        """A recorded span when its trace is sampled, else one that only carries the ids."""
        return self._open(name, kind, traceparent, attributes or {})

    @contextmanager
    def _open(self, name: str, kind: Kind, traceparent: str, attributes: Mapping[str, Attribute]) -> Iterator[Span]:
        from opentelemetry import trace as api

        opened = self._tracer.start_as_current_span(
            name,
            context=_remote(traceparent),
            kind=api.SpanKind[kind.upper()],
            attributes={key: _clean(key, value) for key, value in attributes.items()},
            record_exception=False,
            set_status_on_exception=False,
        )
        with opened as span:
            ids = span.get_span_context()
            header = f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{int(ids.trace_flags):02x}"
            tokens = (context.trace_id.set(header[3:35]), context.traceparent.set(header))
            wrapped = _SdkSpan(span)
            try:
                yield wrapped
            except Exception as error:
                wrapped.fail(redact.error_class(error))
                raise
            finally:
                context.trace_id.reset(tokens[0])
                context.traceparent.reset(tokens[1])

    async def stop(self) -> None:
        """Send what is held; a collector that is away cannot hold up the end of the process."""
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await asyncio.to_thread(self._provider.shutdown)
        except TimeoutError:
            return


def _remote(traceparent: str) -> "Context | None":
    """The SDK's context for a caller's header; None, which means the current one, when there is none."""
    found = _PARENT.fullmatch(traceparent) if traceparent else None
    if found is None or not trace_id(traceparent):
        return None
    from opentelemetry import trace as api

    parent = api.SpanContext(int(found[1], 16), int(found[2], 16), True, api.TraceFlags(int(found[3], 16) & 1))
    return api.set_span_in_context(api.NonRecordingSpan(parent))


def _clean(name: str, value: Attribute) -> Attribute:
    cleaned = redact.field(name, value)
    return (
        cleaned[:MAX_ATTRIBUTE]
        if isinstance(cleaned, str)
        else cleaned
        if isinstance(cleaned, bool | int | float)
        else ""
    )
