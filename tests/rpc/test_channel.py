"""What came with a call goes on with the calls made from it; only reads are tried again."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from holdfast.channel import retry_config
from holdfast.files.v1 import file_service_pb2 as pb
from holdfast.files.v1.file_service_pb2_grpc import FileServiceStub
from libs.observability import context as ids
from libs.rpc import channel as channels
from libs.rpc.channel import channel
from libs.rpc.errors import DeadlineExceeded
from libs.rpc.policy import CONTRACT, Effect, all_methods
from tests.support import tokens
from tests.support.wire import NAME, PARENT, refused, serving, told


async def _token() -> str:
    return tokens.user_token("files")


async def test_request_id_trace_and_token_go_on_with_the_call() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with serving() as wire, channel(wire.address, tokens=_token) as onward:
        stub: Any = FileServiceStub(onward)
        first, second = ids.request_id.set("from-outside"), ids.traceparent.set(f"00-{trace}-00f067aa0ba902b7-01")
        try:
            await stub.GetFile(pb.GetFileRequest(name=NAME))
        finally:
            ids.request_id.reset(first)
            ids.traceparent.reset(second)
        assert wire.servicer.ids == [("from-outside", trace)]


async def test_streams_carry_the_token_too() -> None:
    async with serving() as wire, channel(wire.address, tokens=_token) as onward:
        stub: Any = FileServiceStub(onward)
        down = stub.DownloadFile(pb.DownloadFileRequest(name=NAME))
        assert [answer.data async for answer in down] == [b"1", b"2", b"3"]
        header = pb.UploadHeader(parent=PARENT, path="a", size_bytes=0)
        assert (await stub.UploadFile(iter([pb.UploadFileRequest(header=header)]))).file.size_bytes == 1


async def test_the_soonest_deadline_counts() -> None:
    async with serving() as wire, channel(wire.address, tokens=_token, timeout_seconds=7) as onward:
        stub: Any = FileServiceStub(onward)
        loop = asyncio.get_running_loop()
        for asked, left, most in ((None, None, 7.0), (3.0, None, 3.0), (5.0, 2.0, 2.0), (None, 900.0, 7.0)):
            before = channels.deadline.set(loop.time() + left) if left else None
            try:
                await stub.GetFile(pb.GetFileRequest(name=NAME), timeout=asked)
            finally:
                if before:
                    channels.deadline.reset(before)
            seen = wire.servicer.deadlines[-1]
            assert seen is not None
            assert 0 < seen <= most + 0.1


async def test_a_call_whose_time_is_up_is_not_served() -> None:
    async with serving() as wire, channel(wire.address, tokens=_token) as onward:
        stub: Any = FileServiceStub(onward)
        before = channels.deadline.set(asyncio.get_running_loop().time() - 1)
        try:
            with pytest.raises(DeadlineExceeded):
                await stub.GetFile(pb.GetFileRequest(name=NAME))
        finally:
            channels.deadline.reset(before)
        assert wire.servicer.principals == []


def test_only_methods_that_read_are_tried_again() -> None:
    config = json.loads(retry_config(CONTRACT))
    (entry,) = config["methodConfig"]
    retried = {f"/{each['service']}/{each['method']}" for each in entry["name"]}
    assert retried == {name for name, declared in all_methods().items() if declared.effect is Effect.READ}
    assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


class _Flaky(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Answers UNAVAILABLE until it has been asked three times."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]

        async def answer(_: bytes, context: Any) -> bytes:
            self.asked[name] = self.asked.get(name, 0) + 1
            if self.asked[name] < 3:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_a_read_survives_an_unavailable_server_and_a_write_is_not_repeated() -> None:
    flaky, server = _Flaky(), grpc.aio.server()
    server.add_generic_rpc_handlers((flaky,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with channel(f"127.0.0.1:{port}") as onward:
            stub: Any = FileServiceStub(onward)
            await stub.GetFile(pb.GetFileRequest(name=NAME))
            with refused("UNAVAILABLE", ""):
                await told(stub.DeleteFile(pb.DeleteFileRequest(name=NAME)))
        assert flaky.asked == {"GetFile": 3, "DeleteFile": 1}
    finally:
        await server.stop(None)


async def test_plain_text_is_for_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs TLS"):
        channel("files.example:7001")
    for local in ("unix:/run/x.sock", "127.0.0.1:1", "[::1]:1"):
        await channel(local).close(None)
