"""Where traces go in tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from libs.http1 import Limits, Request, Response, Server


class Collector:
    """An OTLP/HTTP collector that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.raw = b""

    async def handle(self, request: Request) -> Response:
        assert request.path == "/v1/traces"
        self.raw += request.body
        sent = ExportTraceServiceRequest.FromString(request.body)
        for resource in sent.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(names["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return Response(200, [("content-type", "application/x-protobuf")])


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Collector, str]]:
    """A running collector and its base URL."""
    collector = Collector()
    server = Server("127.0.0.1:0", collector.handle, limits=Limits(body_bytes=1_000_000))
    await server.start()
    try:
        yield collector, f"http://{server.address}"
    finally:
        await server.stop()
