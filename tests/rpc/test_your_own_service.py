"""The interceptor that other people mount on their own grpc.aio service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from holdfast.usertoken import UserTokenInterceptor, Verifier, caller
from tests.support import tokens
from tests.support.wire import refused, told

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class _Billing(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Says who calls, in every shape; Open is public."""

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]

        async def one(_: Any, context: Any) -> bytes:
            try:
                return caller().user_id.encode()
            except LookupError:
                return b"nobody"

        async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
            yield await one(request, context)

        if name == "Nothing":
            return None
        shape = "unary_unary" if name == "Open" else name
        made: Any = getattr(grpc, f"{shape}_rpc_method_handler")
        return made(many if shape.endswith("stream") else one)


@asynccontextmanager
async def _billing() -> AsyncIterator[grpc.aio.Channel]:
    keys = tokens.keys("billing")
    interceptor = UserTokenInterceptor(Verifier("billing", lambda: keys), public=["/b.Billing/Open"])
    server = grpc.aio.server(interceptors=[interceptor])
    server.add_generic_rpc_handlers((_Billing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def _ask(channel: Any, shape: str, *metadata: tuple[str, str | bytes], name: str = "") -> bytes:
    call = getattr(channel, shape)(f"/b.Billing/{name or shape}")
    request = iter([b"x"]) if shape.startswith("stream") else b"x"
    answer = call(request, metadata=metadata)
    got: bytes = await told(answer.read() if shape.endswith("stream") else answer)
    return got


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_of_your_service_knows_its_caller_or_refuses(shape: str) -> None:
    good = ("x-user-token", tokens.user_token("billing", user="u7"))
    async with _billing() as channel:
        assert await _ask(channel, shape, good) == b"u7"
        for forged in (
            (),
            (good, good),
            (("x-user-token", tokens.user_token("files")),),
            (good, ("x-user-token-bin", b"x")),
        ):
            with refused("UNAUTHENTICATED", "INVALID_USER_TOKEN"):
                await _ask(channel, shape, *forged)


async def test_a_public_method_of_your_service_needs_no_token_but_refuses_a_bad_one() -> None:
    async with _billing() as channel:
        assert await _ask(channel, "unary_unary", name="Open") == b"nobody"
        assert (
            await _ask(channel, "unary_unary", ("x-user-token", tokens.user_token("billing")), name="Open") == b"user1"
        )
        with refused("UNAUTHENTICATED", "INVALID_USER_TOKEN"):
            await _ask(channel, "unary_unary", ("x-user-token", "x.y.z"), name="Open")


async def test_a_stranger_does_not_learn_which_methods_your_service_has() -> None:
    async with _billing() as channel:
        with refused("UNAUTHENTICATED", "INVALID_USER_TOKEN"):
            await _ask(channel, "unary_unary", name="Nothing")
        with refused("UNIMPLEMENTED", ""):
            await _ask(channel, "unary_unary", ("x-user-token", tokens.user_token("billing")), name="Nothing")
