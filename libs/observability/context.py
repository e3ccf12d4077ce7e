"""The ids that join a log line, an audit row, an error and a span. Set by the correlation stage, inherited by tasks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from libs import ids

request_id: ContextVar[str] = ContextVar("holdfast_request_id", default="")
trace_id: ContextVar[str] = ContextVar("holdfast_trace_id", default="")
"""32 lower-case hex digits, "" outside any trace."""
traceparent: ContextVar[str] = ContextVar("holdfast_traceparent", default="")
"""The W3C header to send with a call made from here, "" outside any trace."""

_REQUEST_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")


def accept(sent: str) -> str:
    """The request id a caller sent when it is bounded and harmless to print, else a new one."""
    return sent if _REQUEST_ID.fullmatch(sent) else ids.new_id()


@contextmanager
def bound(*, request: str = "", trace: str = "") -> Iterator[None]:
    """Run the block with these ids; "" leaves the id as it is."""
    wanted = ((request_id, request), (trace_id, trace))
    tokens = [(variable, variable.set(value)) for variable, value in wanted if value]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)
