"""The one interceptor's stages: every call of every shape runs through the same named stages in one fixed order.

A stage is at most three plain functions, bound once per method at start: `enter` before the servicer, `settle` for
what was raised, `leave` afterwards in the opposite order. None of them waits (only an error's answer does), so a call
pays for two coroutines however many stages there are. Bytes are parsed by the validate stage, not by gRPC: nobody's
message is looked at before they are believed.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from libs.errors import AppError, InvalidArgument, Kind
from libs.observability import context as ids
from libs.observability import log
from libs.observability.metric import Metrics
from libs.observability.names import RPC_STATUS, SERVER_FAULTS
from libs.observability.trace import Off, Tracer, trace_id
from libs.rpc.auth import Authenticator
from libs.rpc.call import TRACEPARENT, Call
from libs.rpc.channel import deadline
from libs.rpc.errors import REQUEST_ID, DeadlineExceeded, masked
from libs.rpc.policy import MethodPolicy, Policy
from libs.rpc.validate import Rules

ORDER = ("correlation", "trace", "log", "metric", "errors", "deadline", "auth", "validate")

Run: TypeAlias = Callable[[Call], Awaitable[Any]]
Parse: TypeAlias = Callable[[bytes], Any]
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What one stage does for one method. enter may raise; leave may not. settle answers a fault, and always raises."""

    enter: Callable[[Call], None] | None = None
    settle: Callable[[Call, BaseException], Awaitable[NoReturn]] | None = None
    leave: Callable[[Call], None] | None = None


class Stage(Protocol):
    """One named concern."""

    name: str

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """What this stage does for calls of *method*; parse makes a request of the method's bytes. Called once, at
        start.
        """


class Draining(AppError):
    """The server is stopping; another one answers."""

    kind, reason = Kind.UNAVAILABLE, "DRAINING"


def assert_order(stages: Sequence[Stage]) -> None:
    """Raise ValueError unless every stage is there, once, in the one order."""
    names = [stage.name for stage in stages]
    if names != list(ORDER):
        raise ValueError(f"stages have to be {', '.join(ORDER)}; they are {', '.join(names)}")


def chain(stages: Sequence[Stage], method: str, policy: Policy, parse: Parse, innermost: Run) -> Run:
    """*innermost* inside all *stages*, the first outermost."""
    hooks = [stage.bind(method, policy, parse) for stage in stages]
    enters = tuple(each.enter for each in hooks if each.enter is not None)
    leaves = tuple(each.leave for each in reversed(hooks) if each.leave is not None)
    (settle,) = [each.settle for each in hooks if each.settle is not None]

    async def run(call: Call) -> Any:
        try:
            for enter in enters:
                enter(call)
            return await innermost(call)
        except BaseException as fault:
            await settle(call, fault)
        finally:
            for leave in leaves:
                leave(call)

    return run


class Correlation:
    """Takes a bounded request id or makes one; it is on every log line, answer and onward call."""

    name = "correlation"

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """Set the id and send it back."""

        def enter(call: Call) -> None:
            call.request_id = ids.accept(call.header(REQUEST_ID))
            ids.request_id.set(call.request_id)
            call.set_trailing_metadata(())

        return Hooks(enter)


class Trace:
    """Takes up the caller's trace; opens a span around the call when traces are configured."""

    name = "trace"

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """Set trace id and traceparent, or leave both to the span."""
        if self._tracer is not None and not isinstance(self._tracer, Off):
            return _spanned(method, self._tracer)

        def enter(call: Call) -> None:
            sent = call.header(TRACEPARENT)
            if sent and (found := trace_id(sent)):
                ids.traceparent.set(sent)
                ids.trace_id.set(found)

        return Hooks(enter)


def _spanned(method: str, tracer: Tracer) -> Hooks:
    name = method.lstrip("/")

    def enter(call: Call) -> None:
        call.span = tracer.span(name, kind="server", traceparent=call.header(TRACEPARENT))
        call.opened = call.span.__enter__()

    def leave(call: Call) -> None:
        if call.span is None or call.opened is None:
            return
        code = call.final_code()
        call.opened.set(RPC_STATUS, code)
        if code in SERVER_FAULTS:
            call.opened.fail(code)
        call.span.__exit__(None, None, None)

    return Hooks(enter, leave=leave)


class Log:
    """One line for each call that did not end well; the edge's access log has the others."""

    name = "log"

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """Write method, code and duration; faults of ours are warnings, refusals are news."""

        def leave(call: Call) -> None:
            code = call.final_code()
            if code != "OK":
                write = _log.warning if code in SERVER_FAULTS else _log.info
                milliseconds = round((time.perf_counter() - call.begun) * 1e3, 1)
                write("call ended", method=method, code=code, milliseconds=milliseconds)

        return Hooks(leave=leave)


class Metric:
    """Calls begun, calls ended by code, and how long they took."""

    name = "metric"

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """Count the call."""
        started, handled = self._metrics.rpc_started, self._metrics.rpc_handled

        def enter(call: Call) -> None:
            started(method)

        def leave(call: Call) -> None:
            handled(method, call.final_code(), time.perf_counter() - call.begun)

        return Hooks(enter, leave=leave)


class Errors:
    """Turns what was raised into the one shape of an error; only cancellation and gRPC's own abort pass as they are."""

    name = "errors"

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """Refuse with an AppError as it is, with anything else as INTERNAL without its text."""

        async def settle(call: Call, fault: BaseException) -> NoReturn:
            if isinstance(fault, asyncio.CancelledError):
                if call.overdue is None:
                    call.outcome = _OVERDUE if call.seconds_left() <= 0 else grpc.StatusCode.CANCELLED
                    raise fault
                call.task.uncancel()
                fault = call.overdue
            elif isinstance(fault, grpc.aio.AbortError) or not isinstance(fault, Exception):
                raise fault
            if not isinstance(fault, AppError):
                _log.error("call failed", method=method, exc_info=fault)
            await call.refuse(masked(fault))

        return Hooks(settle=settle)


_OVERDUE = grpc.StatusCode.DEADLINE_EXCEEDED


class Deadline:
    """Nothing unary runs longer than its caller waits, or than the server allows.

    gRPC itself cancels a call whose caller's deadline has passed. The server's own bound is the same for every call,
    so those under it stand in the order in which they end, and one timer a second looks at the first: asyncio.timeout
    costs a call more than authenticating it.
    """

    name = "deadline"

    def __init__(self, unary_seconds: float) -> None:
        self._seconds = unary_seconds
        self._watched: dict[Call, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """Make the deadline known to onward calls; watch a unary call that has none of its own, or a later one."""
        unary = isinstance(policy, MethodPolicy) and not (policy.client_streaming or policy.server_streaming)
        return Hooks(self._enter_unary, leave=self._leave_unary) if unary else Hooks(self._enter_stream)

    def _enter_stream(self, call: Call) -> None:
        left = call.seconds_left()
        if left <= 0:
            raise DeadlineExceeded("The deadline had passed before the call began.")
        if left != math.inf:
            deadline.set(call.loop.time() + left)

    def _enter_unary(self, call: Call) -> None:
        if call.seconds_left() <= self._seconds:
            self._enter_stream(call)
            return
        now = call.loop.time()
        self._watched[call] = now + self._seconds
        deadline.set(now + self._seconds)
        if self._timer is None:
            self._timer = call.loop.call_later(min(1.0, self._seconds), self._look, call.loop)

    def _leave_unary(self, call: Call) -> None:
        self._watched.pop(call, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for call, ends in list(self._watched.items()):
            if ends > now:
                break
            del self._watched[call]
            limit = f"{self._seconds:g}"
            call.overdue = DeadlineExceeded(f"The call took longer than {limit} seconds.", seconds=limit)
            call.task.cancel()
        self._timer = loop.call_later(min(1.0, self._seconds), self._look, loop) if self._watched else None


class Auth:
    """Establishes who calls and whether the policy lets them, before a byte of the request is parsed; see
    libs.rpc.auth.
    """

    name = "auth"

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """The check that the method's access asks for."""
        return Hooks(self._authenticator.check(policy))


class Validate:
    """Parses each request message and holds it against the bounds of the contract; see libs.rpc.validate."""

    name = "validate"

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def bind(self, method: str, policy: Policy, parse: Parse) -> Hooks:
        """Check the message, or every message of a stream as it is read."""
        check = self._rules.compiled(policy.request_type) if isinstance(policy, MethodPolicy) else _unbounded

        def checked(raw: bytes) -> Any:
            try:
                check(raw)
                return parse(raw)
            except DecodeError:
                raise InvalidArgument("The request is not a message of this method.") from None

        def enter(call: Call) -> None:
            call.parse = checked
            if call.request is not None:
                call.request = checked(call.request)

        return Hooks(enter)


def _unbounded(raw: bytes) -> None:
    """Health and reflection have no bounds of ours."""
