"""Puts the chain of stages around every handler gRPC has, whatever its shape and style."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc

from libs.observability.names import OTHER
from libs.rpc.call import Call, Context
from libs.rpc.errors import Unimplemented
from libs.rpc.policy import PLUMBING, Access, Effect, Policy, of
from libs.rpc.stages import Draining, Run, Stage, assert_order, chain

Details: TypeAlias = grpc.HandlerCallDetails
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Entry: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
_NOBODY = Policy(Access.PUBLIC, Effect.READ)


class InFlight:
    """How many calls are being served, and whether new ones are taken. Streams await `draining` to say goodbye."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._count = 0

    @property
    def count(self) -> int:
        """Calls being served now, health and reflection apart."""
        return self._count

    def begin(self) -> None:
        """Count a call in. Raises Draining when the server is about to stop."""
        if self.draining.is_set():
            raise Draining("The server is stopping; connect again.", retry_after_seconds=1)
        self._count += 1
        self._idle.clear()

    def end(self) -> None:
        """Count a call out."""
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    async def idle(self, seconds: float) -> bool:
        """Wait until no call is being served; False when *seconds* were not enough."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


class Stages(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """The one server interceptor. Handlers are wrapped once and kept: a call looks up one dict entry."""

    def __init__(self, stages: Sequence[Stage], flight: InFlight) -> None:
        assert_order(stages)
        self._stages = tuple(stages)
        self._flight = flight
        self._wrapped: dict[str, Handler] = {}
        self._unknown = grpc.unary_unary_rpc_method_handler(
            self._entry(OTHER, _NOBODY, bytes, _no_such_method, streams=False)
        )

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler]], handler_call_details: Details
    ) -> Handler:
        """The wrapped handler of the method; one that answers UNIMPLEMENTED when there is none."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            found: Handler | None = await continuation(handler_call_details)
            if found is None:
                return self._unknown
            wrapped = self.prepare(method, found)
        return wrapped

    def prepare(self, method: str, handler: Handler) -> Handler:
        """Wrap *handler* now: rules are compiled, policies are read, and what is missing raises."""
        style = _style(method, handler)
        parse = handler.request_deserializer or bytes
        streams = bool(handler.request_streaming)
        entry = self._entry(method, of(method), parse, style, streams=streams)
        wrapped = _FACTORIES[streams, bool(handler.response_streaming)](entry, None, handler.response_serializer)
        self._wrapped[method] = wrapped
        return wrapped

    def _entry(
        self, method: str, policy: Policy, parse: Callable[[bytes], Any], innermost: Run, *, streams: bool
    ) -> Entry:
        run = chain(self._stages, method, policy, parse, innermost)
        flight, counted = self._flight, method not in PLUMBING

        async def serve(request: Any, context: Context) -> Any:
            call = Call(method, policy, context, flight.draining, None if streams else request)
            return await run(call)

        async def counting(request: Any, context: Context) -> Any:
            call = Call(method, policy, context, flight.draining, None if streams else request)
            try:
                flight.begin()
            except Draining as refusal:
                await call.refuse(refusal)
            try:
                return await run(call)
            finally:
                flight.end()

        return counting if counted else serve


_FACTORIES: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


async def _no_such_method(call: Call) -> Any:
    raise Unimplemented("No such method.")


def _style(method: str, handler: Handler) -> Run:
    """The servicer's own function as the end of the chain, whichever way it streams."""
    streams_in, streams_out = bool(handler.request_streaming), bool(handler.response_streaming)
    shape = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
    behaviour: Any = getattr(handler, shape)
    if streams_out and inspect.isasyncgenfunction(behaviour):
        return _generator(behaviour, streams_in=streams_in)
    if behaviour.__module__.endswith("_pb2_grpc"):
        return _no_such_method  # the generated base class answers: the servicer does not have this method
    if not inspect.iscoroutinefunction(behaviour):
        raise TypeError(f"{method} has to be an async function")
    if streams_in:
        return lambda call: behaviour(call.messages(), call)
    return lambda call: behaviour(call.request, call)


def _generator(behaviour: Any, *, streams_in: bool) -> Run:
    async def run(call: Call) -> None:
        write = call.write
        # A generator left half-way is closed here and now: what it holds open is released before the call counts as
        # ended.
        async with aclosing(behaviour(call.messages() if streams_in else call.request, call)) as answers:
            async for answer in answers:
                await write(answer)

    return run
