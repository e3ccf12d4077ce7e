"""The one interceptor: every call of every shape runs through the same named stages in one fixed order.

Each stage wraps the next, once per method at start, so that a call pays for a chain of plain coroutines and nothing is looked up
again. Bytes are parsed by the validate stage, not by gRPC: nobody's message is looked at before they are believed.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from libs.errors import AppError, InvalidArgument, Unavailable
from libs.observability import context as ids
from libs.observability import log
from libs.observability.metric import Metrics
from libs.observability.names import SERVER_FAULTS
from libs.rpc.auth import Authenticator
from libs.rpc.call import TRACEPARENT, Call
from libs.rpc.channel import deadline
from libs.rpc.errors import REQUEST_ID, DeadlineExceeded, masked
from libs.rpc.policy import MethodPolicy, Policy
from libs.rpc.validate import Rules

ORDER = ("correlation", "trace", "log", "metric", "errors", "deadline", "auth", "validate", "idempotency")
REQUIRED = frozenset(ORDER) - {"idempotency"}
"""Idempotency joins when a method first keeps answers (requirement: AIP-155); a chain that has it must have it last."""

Run: TypeAlias = Callable[[Call], Awaitable[Any]]
Parse: TypeAlias = Callable[[bytes], Any]
_log = log.get(__name__)


class Stage(Protocol):
    """One named concern. wrap is called once per method at start."""

    name: str

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """A coroutine function that runs this stage around *proceed*; parse makes a request of the method's bytes."""


class Draining(AppError):
    """The server is stopping; another one answers."""

    kind, reason = Unavailable.kind, "DRAINING"


def assert_order(stages: Sequence[Stage]) -> None:
    """Raise ValueError unless every required stage is there, once, in the one order."""
    names = [stage.name for stage in stages]
    if not REQUIRED <= set(names) or names != [name for name in ORDER if name in names]:
        raise ValueError(f"stages have to be {', '.join(ORDER)}; they are {', '.join(names)}")


def chain(stages: Sequence[Stage], method: str, policy: Policy, parse: Parse, innermost: Run) -> Run:
    """*innermost* inside all *stages*, the first outermost."""
    run = innermost
    for stage in reversed(stages):
        run = stage.wrap(method, policy, parse, run)
    return run


class Correlation:
    """Takes a bounded request id or makes one; it is on every log line, answer and onward call."""

    name = "correlation"

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Set the id and send it back."""

        async def run(call: Call) -> Any:
            call.request_id = ids.accept(call.header(REQUEST_ID))
            ids.request_id.set(call.request_id)
            call.set_trailing_metadata(())
            return await proceed(call)

        return run


class Trace:
    """Takes up the caller's trace; *span* opens a span around the call when traces are configured."""

    name = "trace"

    def __init__(self, span: "Callable[[str, str], Any] | None" = None) -> None:
        self._span = span

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Set trace id and traceparent."""
        span = self._span

        async def run(call: Call) -> Any:
            sent = call.header(TRACEPARENT)
            if sent and len(sent) == 55 and sent.isascii():
                ids.traceparent.set(sent)
                ids.trace_id.set(sent[3:35])
            return await proceed(call)

        async def traced(call: Call) -> Any:
            with span(method, call.header(TRACEPARENT)):  # type: ignore[misc]  # only chosen when span is given
                return await proceed(call)

        return run if span is None else traced


class Log:
    """One line for each call that did not end well; the edge's access log has the others."""

    name = "log"

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Write method, code and duration; faults of ours are warnings, refusals are news."""

        async def run(call: Call) -> Any:
            begin = time.perf_counter()
            try:
                return await proceed(call)
            finally:
                code = call.final_code()
                if code != "OK":
                    write = _log.warning if code in SERVER_FAULTS else _log.info
                    write("call ended", method=method, code=code, milliseconds=round((time.perf_counter() - begin) * 1e3, 1))

        return run


class Metric:
    """Calls begun, calls ended by code, and how long they took."""

    name = "metric"

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Count the call."""
        started, handled = self._metrics.rpc_started, self._metrics.rpc_handled

        async def run(call: Call) -> Any:
            begin = time.perf_counter()
            started(method)
            try:
                return await proceed(call)
            finally:
                handled(method, call.final_code(), time.perf_counter() - begin)

        return run


class Errors:
    """Turns what was raised into the one shape of an error; only cancellation and gRPC's own abort pass as they are."""

    name = "errors"

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Refuse with an AppError as it is, with anything else as INTERNAL without its text."""

        async def run(call: Call) -> Any:
            try:
                return await proceed(call)
            except grpc.aio.AbortError:
                raise
            except asyncio.CancelledError:
                call.outcome = grpc.StatusCode.CANCELLED if call.seconds_left() > 0 else grpc.StatusCode.DEADLINE_EXCEEDED
                raise
            except Exception as fault:  # noqa: BLE001 - the outermost place that may answer: nothing may leak to the caller
                if not isinstance(fault, AppError):
                    _log.error("call failed", method=method, exc_info=fault)
                await call.refuse(masked(fault))

        return run


class Deadline:
    """Nothing unary runs longer than its caller waits, or than the server allows."""

    name = "deadline"

    def __init__(self, unary_seconds: float) -> None:
        self._unary_seconds = unary_seconds

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Make the deadline known to onward calls; end a unary call that outlives the server's own bound."""
        limit = self._unary_seconds
        streams = isinstance(policy, MethodPolicy) and (policy.client_streaming or policy.server_streaming)
        bounded = isinstance(policy, MethodPolicy) and not streams

        async def run(call: Call) -> Any:
            left = call.seconds_left()
            if left <= 0:
                raise DeadlineExceeded("The deadline had passed before the call began.")
            if not bounded or left <= limit:
                if left != math.inf:
                    deadline.set(asyncio.get_running_loop().time() + left)
                return await proceed(call)
            deadline.set(asyncio.get_running_loop().time() + limit)
            try:
                async with asyncio.timeout(limit) as timer:
                    return await proceed(call)
            except TimeoutError:
                if timer.expired():
                    raise DeadlineExceeded(f"The call took longer than {limit:g} seconds.", seconds=f"{limit:g}") from None
                raise

        return run


class Auth:
    """Establishes who calls and whether the policy lets them; see libs.rpc.auth."""

    name = "auth"

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Check before a byte of the request is parsed."""
        check = self._authenticator.check(policy)

        async def run(call: Call) -> Any:
            check(call)
            return await proceed(call)

        return run


class Validate:
    """Parses each request message and holds it against the bounds of the contract; see libs.rpc.validate."""

    name = "validate"

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def wrap(self, method: str, policy: Policy, parse: Parse, proceed: Run) -> Run:
        """Check the message, or every message of a stream as it is read."""
        check = self._rules.compiled(policy.request_type) if isinstance(policy, MethodPolicy) else None

        def checked(raw: bytes) -> Any:
            try:
                if check is not None:
                    check(raw)
                return parse(raw)
            except DecodeError:
                raise InvalidArgument("The request is not a message of this method.") from None

        async def run(call: Call) -> Any:
            call.parse = checked
            if call.request is not None:
                call.request = checked(call.request)
            return await proceed(call)

        return run
