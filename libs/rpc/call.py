"""One call as the stages and the servicer see it: the same object over all four shapes and both streaming styles."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn, TypeAlias

import grpc

from libs.errors import AppError
from libs.observability.trace import Span
from libs.principal import Principal, User
from libs.rpc.errors import REQUEST_ID, code, trailers
from libs.rpc.policy import MethodPolicy, Policy

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What a servicer's second argument is to a type checker; at run time it is a Call."""
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

USER_TOKEN = "x-user-token"
SERVICE_TOKEN = "x-service-token"
TRACEPARENT = "traceparent"
EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs do not know it
READ_HEADERS = frozenset(
    {USER_TOKEN, f"{USER_TOKEN}-bin", SERVICE_TOKEN, f"{SERVICE_TOKEN}-bin", TRACEPARENT, REQUEST_ID}
)


class Call:
    """The context handed to servicers, a grpc.aio context in all but name.

    parse turns one raw message into a checked request and raises AppError; it is set by the validate stage, so that
    nobody is authenticated after their bytes were looked at.
    """

    __slots__ = (
        "_context", "_extra_trailers", "begun", "draining", "headers", "loop", "method", "opened", "outcome",
        "overdue", "parse", "policy", "principal", "request", "request_id", "span", "task", "user",
    )  # fmt: skip

    def __init__(
        self, method: str, policy: Policy, context: Context, draining: asyncio.Event, raw: bytes | None
    ) -> None:
        self._context = context
        self._extra_trailers: Metadata = ()
        self.begun = time.perf_counter()
        self.method = method
        self.policy = policy
        self.draining = draining
        self.request: Any = raw
        self.request_id = ""
        self.headers = read_headers(tuple(context.invocation_metadata() or ()))
        self.principal: Principal | None = None
        self.user: User | None = None
        self.outcome: grpc.StatusCode | None = None
        self.opened: Span | None = None
        self.overdue: AppError | None = None
        self.span: AbstractContextManager[Span] | None = None
        self.parse: Callable[[bytes], Any] = bytes
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[Any] = asyncio.current_task(self.loop)  # type: ignore[assignment]  # None outside a task only

    def header(self, name: str) -> str:
        """The first text value of a header the stages read, "" when there is none."""
        for value in self.headers.get(name, ()):
            if isinstance(value, str):
                return value
        return ""

    async def read(self) -> Any:
        """The next request message, checked; `EOF` at the end."""
        raw = await self._context.read()
        return raw if raw is EOF else self.parse(raw)

    async def messages(self) -> AsyncIterator[Any]:
        """The request messages, each checked."""
        while (message := await self.read()) is not EOF:
            yield message

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Send these after the answer, beside the request id."""
        self._extra_trailers = tuple(trailing_metadata)
        self._context.set_trailing_metadata((*self._extra_trailers, (REQUEST_ID, self.request_id)))

    async def refuse(self, error: AppError) -> NoReturn:
        """End the call with *error*."""
        self.outcome = code(error.kind)
        sent = (*self._extra_trailers, *trailers(error, self.request_id))
        await self._context.abort(self.outcome, error.message, sent)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """As grpc.aio's; our own servicers raise an AppError instead."""
        self.outcome = code
        await self._context.abort(code, details, trailing_metadata)

    def seconds_left(self) -> float:
        """Seconds until the caller's deadline, infinity when it set none."""
        left = self._context.time_remaining()
        return math.inf if left is None else left

    def final_code(self) -> str:
        """The name of the code the call ended with, once it has."""
        if self.outcome is not None:
            return self.outcome.name
        told: object = (
            self._context.code()
        )  # None or 0 unless the servicer set one; a number or an enum member when it did
        return told.name if isinstance(told, grpc.StatusCode) else _NAMES.get(told or 0, "UNKNOWN")

    def __getattr__(self, name: str) -> Any:
        """Everything else is grpc.aio's own."""
        return getattr(self._context, name)


_NAMES: dict[object, str] = {each.value[0]: each.name for each in grpc.StatusCode}


def read_headers(metadata: Metadata) -> dict[str, list[str | bytes]]:
    """The headers that the stages read, every value of each."""
    found: dict[str, list[str | bytes]] = {}
    for key, value in metadata:
        if key in READ_HEADERS:
            found.setdefault(key, []).append(value)
    return found


def principal(context: object) -> Principal:
    """Who the auth stage established for the call. Raises RuntimeError on a method that anyone may call and nobody
    signed in to.
    """
    found = _call(context).principal
    if found is None:
        raise RuntimeError("a public call has no principal")
    return found


def user(context: object) -> User:
    """The signed-in user of a call to a method that needs one."""
    found = _call(context).user
    if found is None:
        raise RuntimeError("this call has no user")
    return found


def policy(context: object) -> MethodPolicy:
    """What the contract declares about the method being served."""
    found = _call(context).policy
    if not isinstance(found, MethodPolicy):
        raise RuntimeError("not a method of the contract")
    return found


def draining(context: object) -> asyncio.Event:
    """Set when the server is about to stop: a stream says goodbye and returns."""
    return _call(context).draining


def _call(context: object) -> Call:
    if not isinstance(context, Call):
        raise TypeError("the context of a call that went through libs.rpc.server is needed")
    return context
