"""Protect your own grpc.aio service: no call reaches a servicer without a user that Holdfast's edge vouches for."""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from holdfast.usertoken.claims import Claims, TokenError, Verifier

HEADER = "x-user-token"
HEALTH = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
_caller: ContextVar[Claims] = ContextVar("holdfast_caller")

Details: TypeAlias = grpc.HandlerCallDetails
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def caller() -> Claims:
    """Who makes the call being served. Raises LookupError outside a call that the interceptor let through."""
    return _caller.get()


def one_token(metadata: Sequence[tuple[str, str | bytes]], header: str = HEADER) -> str:
    """The one value of *header*, "" when there is none.

    Raises TokenError for two values, a comma-joined or empty value, or a binary twin `<header>-bin`.
    """
    values = [value for key, value in metadata if key == header]
    if any(key == f"{header}-bin" for key, _ in metadata):
        raise TokenError(f"{header}-bin is never sent by the edge")
    if not values:
        return ""
    value = values[0]
    if len(values) > 1 or not isinstance(value, str) or not value or "," in value or " " in value:
        raise TokenError(f"{header} has to be there exactly once")
    return value


class UserTokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Mount on `grpc.aio.server(interceptors=[…])`; inside a servicer `caller()` gives the user.

    verifier: for your own audience. public: paths `/package.Service/Method` that anyone may call; health always is.
    A refused call gets UNAUTHENTICATED with ErrorInfo reason INVALID_USER_TOKEN, and no reason that helps a forger.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        public: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._verifier = verifier
        self._public = frozenset(public) | frozenset(HEALTH)
        self._now = now

    async def intercept_service(
        self, continuation: "Callable[[Details], Awaitable[Handler]]", handler_call_details: Details
    ) -> Handler:
        """Let the call through with its caller established, or answer it with a refusal."""
        metadata = handler_call_details.invocation_metadata
        try:
            token = one_token(metadata)
            if token:
                _caller.set(self._verifier.verify(token, self._now()))
            elif handler_call_details.method not in self._public:
                return _refusal(await continuation(handler_call_details))
        except TokenError:
            return _refusal(await continuation(handler_call_details))
        return await continuation(handler_call_details)


async def _refuse(_request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    status = status_pb2.Status(code=code_pb2.UNAUTHENTICATED, message="A valid user token is needed.")
    info = error_details_pb2.ErrorInfo(reason="INVALID_USER_TOKEN", domain="holdfast.dev")
    packed = any_pb2.Any()
    packed.Pack(info)
    status.details.append(packed)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, status.message, trailers)


def _refusal(handler: "Handler | None") -> Handler:
    """A handler of the same shape as *handler* that refuses; an unknown method is refused too, so that nothing is
    learned.
    """
    if handler is None or not (handler.request_streaming or handler.response_streaming):
        return grpc.unary_unary_rpc_method_handler(_refuse)
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(_refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(_refuse)
    return grpc.unary_stream_rpc_method_handler(_refuse)
