"""Call another service: what came with the call being served goes on with the calls it makes.

The remaining deadline, the request id and the trace are forwarded; tokens are asked for afresh on each call, because
a user token lives for a minute. Only UNAVAILABLE is retried, and only on methods that the contract declares READ.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from holdfast.channel import OPTIONS, retry_config
from libs.observability import context as ids
from libs.rpc.call import SERVICE_TOKEN, TRACEPARENT, USER_TOKEN
from libs.rpc.errors import REQUEST_ID, DeadlineExceeded
from libs.rpc.policy import CONTRACT

deadline: ContextVar[float] = ContextVar("holdfast_deadline", default=math.inf)
"""When the call being served must have ended, on the running loop's clock; infinity when it has no deadline."""

DEFAULT_SECONDS = 10.0
Tokens: TypeAlias = Callable[[], Awaitable[str]]
Details: TypeAlias = grpc.aio.ClientCallDetails


def channel(
    address: str,
    *,
    ca_file: str | Path | None = None,
    tokens: Tokens | None = None,
    service_token: Callable[[], str] | None = None,
    timeout_seconds: float = DEFAULT_SECONDS,
) -> grpc.aio.Channel:
    """A channel to *address* (`unix:/path.sock` or `host:port`); connects when first used, reconnects by itself.

    ca_file: believe this authority and use TLS; without it the address has to be a Unix socket or loopback
    (ValueError).
    tokens: gives the x-user-token of each call. service_token: gives the x-service-token. timeout_seconds: of a unary
    call made outside any deadline; streams get the deadline of the call being served, or none. A call whose time is
    up raises DeadlineExceeded unsent.
    """
    forward = _Forward(tokens, service_token, timeout_seconds)
    interceptors: list[Any] = [_Unary(forward), _UnaryStream(forward), _StreamUnary(forward), _StreamStream(forward)]
    options = [*OPTIONS, ("grpc.service_config", retry_config(CONTRACT))]
    if ca_file is None:
        if not is_local(address):
            raise ValueError(f"{address} is not on this machine: it needs TLS")
        return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
    credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
    return grpc.aio.secure_channel(address, credentials, options=options, interceptors=interceptors)


def is_local(address: str) -> bool:
    """Whether *address* is a Unix socket or loopback, where plain text never leaves the machine."""
    host = address.rpartition(":")[0]
    return address.startswith("unix:") or host in ("127.0.0.1", "[::1]", "localhost")


class _Forward:
    def __init__(self, tokens: Tokens | None, service_token: Callable[[], str] | None, timeout_seconds: float) -> None:
        self._tokens = tokens
        self._service_token = service_token
        self._timeout_seconds = timeout_seconds

    async def details(self, details: Details, *, unary: bool) -> Details:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        for key, value in await self._added():
            if key not in metadata:
                metadata.add(key, value)
        return grpc.aio.ClientCallDetails(
            details.method,
            self._timeout(details.timeout, unary=unary),
            metadata,
            details.credentials,
            details.wait_for_ready,
        )

    async def _added(self) -> list[tuple[str, str]]:
        added = [(REQUEST_ID, ids.request_id.get()), (TRACEPARENT, ids.traceparent.get())]
        if self._tokens is not None:
            added.append((USER_TOKEN, await self._tokens()))
        if self._service_token is not None:
            added.append((SERVICE_TOKEN, self._service_token()))
        return [(key, value) for key, value in added if value]

    def _timeout(self, asked: float | None, *, unary: bool) -> float | None:
        """The soonest of what was asked, what is left of the call being served, and the default of unary calls."""
        left = deadline.get() - asyncio.get_running_loop().time()
        default = self._timeout_seconds if unary and asked is None else math.inf
        soonest = min(math.inf if asked is None else asked, left, default)
        if soonest <= 0:
            # grpc.aio takes 0 for "no deadline at all", and lets a very short one through.
            raise DeadlineExceeded("The deadline had passed before the call was made.")
        return None if soonest == math.inf else soonest


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    def __init__(self, forward: _Forward) -> None:
        self._forward = forward

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Details, request: Any) -> Any:
        return await continuation(await self._forward.details(client_call_details, unary=True), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    def __init__(self, forward: _Forward) -> None:
        self._forward = forward

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Details, request: Any) -> Any:
        return await continuation(await self._forward.details(client_call_details, unary=False), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    def __init__(self, forward: _Forward) -> None:
        self._forward = forward

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Details, request_iterator: Any
    ) -> Any:
        return await continuation(await self._forward.details(client_call_details, unary=False), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    def __init__(self, forward: _Forward) -> None:
        self._forward = forward

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Details, request_iterator: Any
    ) -> Any:
        return await continuation(await self._forward.details(client_call_details, unary=False), request_iterator)
