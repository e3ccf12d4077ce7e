"""Traces: carried on without an endpoint, exported without texts with one."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from libs.observability import context, trace
from tests.support.collector import Collector, listening

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"


@asynccontextmanager
async def collecting(ratio: float) -> AsyncIterator[tuple[Collector, trace.Tracer]]:
    """A collector and a tracer that sends to it, which has sent everything when the block is left."""
    async with listening() as (collector, endpoint):
        tracer = trace.configure("unit", endpoint, ratio=ratio)
        yield collector, tracer
        await tracer.stop()


def attributes(span: Span) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes}


async def test_without_an_endpoint_the_callers_trace_is_carried_on_and_ends_with_the_block() -> None:
    tracer = trace.configure("unit", "")
    with tracer.span("work", traceparent=PARENT) as span:
        span.set("a", 1)
        assert (context.trace_id.get(), context.traceparent.get()) == (TRACE, PARENT)
    assert (context.trace_id.get(), context.traceparent.get()) == ("", "")
    with tracer.span("work", traceparent="junk"):
        assert context.trace_id.get() == ""


def test_without_an_endpoint_the_sdk_is_not_loaded() -> None:
    probe = "import sys; from libs.observability import trace; t = trace.configure('x', {!r}, ratio=1.0); "
    probe += "print('opentelemetry.sdk' in sys.modules)"
    for endpoint, loaded in (("", "False"), ("http://127.0.0.1:9", "True")):
        done = subprocess.run(
            [sys.executable, "-c", probe.format(endpoint)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == loaded


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        PARENT.upper(),
        PARENT + "0",
        "01" + PARENT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ],
)
def test_a_malformed_traceparent_is_no_trace(header: str) -> None:
    assert trace.trace_id(header) == ""
    assert trace.trace_id(PARENT) == TRACE


async def test_spans_of_a_sampled_caller_are_exported_under_it() -> None:
    async with collecting(ratio=0.0) as (collector, tracer):
        with tracer.span("GetFile", kind="server", traceparent=PARENT, attributes={"rpc.method": "a.B/C", "n": 3}):
            assert context.trace_id.get() == TRACE
            outer = context.traceparent.get()
            with tracer.span("query"):
                assert context.traceparent.get() != outer
    inner, outermost = collector.spans
    assert [span.name for span in collector.spans] == ["query", "GetFile"]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert outermost.parent_span_id.hex() == PARENT[36:52]
    assert inner.parent_span_id == outermost.span_id
    assert outermost.kind == Span.SPAN_KIND_SERVER
    assert attributes(outermost) == {"rpc.method": "a.B/C", "n": 3}
    assert collector.services == {"unit"}


@pytest.mark.control("O6", "traces are sampled")
async def test_an_unsampled_caller_and_an_unlucky_trace_are_not_exported_but_carry_ids() -> None:
    async with collecting(ratio=0.0) as (collector, tracer):
        with tracer.span("mine"):
            assert len(context.trace_id.get()) == 32
        with tracer.span("theirs", traceparent=UNSAMPLED):
            assert context.trace_id.get() == TRACE
            assert context.traceparent.get().endswith("-00")
    assert collector.spans == []
    async with collecting(ratio=1.0) as (collector, tracer):
        with tracer.span("mine"):
            pass
        with tracer.span("theirs", traceparent=UNSAMPLED):
            pass
    assert [span.name for span in collector.spans] == ["mine"]


async def test_ten_in_a_hundred_new_traces_are_kept_by_default() -> None:
    async with collecting(ratio=0.1) as (collector, tracer):
        for _ in range(1000):
            with tracer.span("work"):
                pass
    assert 40 < len(collector.spans) < 200


@pytest.mark.control("O6", "traces hold no exception text")
async def test_a_failure_is_exported_by_class_without_its_text_and_attributes_are_redacted() -> None:
    async with collecting(ratio=1.0) as (collector, tracer):
        with pytest.raises(RuntimeError):
            _fail_inside(tracer)
    (exported,) = collector.spans
    told = attributes(exported)
    assert told["error.type"] == "RuntimeError"
    assert told["note"] == "mail som***@example.com password=[redacted]"
    assert len(str(told["long"])) == trace.MAX_ATTRIBUTE
    assert exported.events == []
    assert exported.status.message == ""
    assert b"canary-1" not in collector.raw
    assert b"canary-2canary" not in collector.raw
    assert b"canary-3" not in collector.raw


async def test_a_collector_that_is_away_does_not_hold_up_the_end() -> None:
    tracer = trace.configure("unit", "http://127.0.0.1:9", ratio=1.0)
    with tracer.span("work"):
        pass
    await tracer.stop()


def _fail_inside(tracer: trace.Tracer) -> None:
    with tracer.span("work") as span:
        span.set("note", "mail somebody@example.com password=canary-1")
        span.set("token", "canary-2" * 5)
        span.set("long", "x" * 5000)
        raise RuntimeError("canary-3")
