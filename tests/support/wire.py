"""A FileService that answers from memory, behind the real server and channel: what the RPC tests talk to."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from holdfast.errors import HoldfastError, from_rpc
from holdfast.files.v1 import file_service_pb2 as pb
from holdfast.files.v1.file_service_pb2_grpc import (
    FileServiceServicer,
    FileServiceStub,
    add_FileServiceServicer_to_server,
)
from holdfast.usertoken import Verifier
from libs.errors import AppError, Kind
from libs.observability import context as ids
from libs.observability.metric import Metrics
from libs.principal import Principal
from libs.rpc.call import EOF
from libs.rpc.health import Health
from libs.rpc.server import Context, Limits, Server, draining, principal
from tests.support import tokens

NAME = "organizations/org1/users/user1/files/file1"
PARENT = "organizations/org1/users/user1"
SERVICE = pb.DESCRIPTOR.services_by_name["FileService"]


class TooMuch(AppError):
    """A refusal that waiting helps."""

    kind, reason = Kind.EXHAUSTED, "RATE_LIMITED"


class Echo(FileServiceServicer):
    """Both streaming styles: Download yields, Upload iterates; subclasses read and write instead."""

    def __init__(self) -> None:
        self.principals: list[Principal] = []
        self.metadata: list[dict[str, Any]] = []
        self.ids: list[tuple[str, str]] = []
        self.deadlines: list[float | None] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def GetFile(self, request: pb.GetFileRequest, context: Context) -> pb.GetFileResponse:
        """Answers; the last letters of the name ask for a fault, or to wait."""
        self.principals.append(principal(context))
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.ids.append((ids.request_id.get(), ids.trace_id.get()))
        self.deadlines.append(context.time_remaining())
        if request.name.endswith("boom"):
            raise RuntimeError("the password is hunter2")
        if request.name.endswith("busy"):
            raise TooMuch("Too many calls: 7.", retry_after_seconds=2.5, calls=7)
        if request.name.endswith("wait"):
            self.entered.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return pb.GetFileResponse(file=pb.File(name=request.name))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Context
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        """Three chunks; or one, and then nothing until the server drains."""
        yield pb.DownloadFileResponse(data=b"1")
        if request.name.endswith("stream"):
            self.entered.set()
            await draining(context).wait()
            yield pb.DownloadFileResponse(data=b"goodbye")
            return
        if request.name.endswith("boom"):
            raise RuntimeError("the password is hunter2")
        yield pb.DownloadFileResponse(data=b"2")
        yield pb.DownloadFileResponse(data=b"3")

    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: Context
    ) -> pb.UploadFileResponse:
        """Counts the messages."""
        count = 0
        async for _ in request_iterator:
            count += 1
        return pb.UploadFileResponse(file=pb.File(size_bytes=count))


class ReaderWriter(Echo):
    """The same answers in gRPC's other style."""

    async def DownloadFile(self, request: pb.DownloadFileRequest, context: Context) -> None:  # type: ignore[override]  # reader/writer
        """Three chunks, written."""
        for data in (b"1", b"2", b"3"):
            await context.write(pb.DownloadFileResponse(data=data))

    async def UploadFile(self, _: object, context: Context) -> pb.UploadFileResponse:
        """Counts the messages, read."""
        count = 0
        while await context.read() is not EOF:
            count += 1
        return pb.UploadFileResponse(file=pb.File(size_bytes=count))


@dataclass
class Wire:
    """A running server and a plain channel to it."""

    servicer: Echo
    server: Server
    health: Health
    metrics: Metrics
    channel: grpc.aio.Channel
    address: str

    @property
    def stub(self) -> Any:
        """The generated stub, untyped: tests send what a type checker would not."""
        return FileServiceStub(self.channel)

    async def get(
        self, *metadata: tuple[str, str | bytes], name: str = NAME, timeout: float = 10
    ) -> pb.GetFileResponse:
        """GetFile with these headers, errors as HoldfastError."""
        answer: pb.GetFileResponse = await told(
            self.stub.GetFile(pb.GetFileRequest(name=name), metadata=metadata, timeout=timeout)
        )
        return answer


def signed(**claims: Any) -> tuple[str, str]:
    """The header of a valid user token for files."""
    return ("x-user-token", tokens.user_token("files", **claims))


async def told(answer: Any) -> Any:
    """The answer, or its error as HoldfastError."""
    try:
        return await answer
    except grpc.aio.AioRpcError as fault:
        raise from_rpc(fault) from None


@contextmanager
def refused(code: str, reason: str) -> Iterator[pytest.ExceptionInfo[HoldfastError]]:
    """The block raises a HoldfastError with this code and reason."""
    with pytest.raises(HoldfastError) as found:
        yield found
    assert (found.value.code, found.value.reason) == (code, reason), found.value


def _echo() -> Echo:
    return Echo()  # type: ignore[abstract]  # the other methods stay unimplemented, as some tests want


@asynccontextmanager
async def serving(servicer: Echo | None = None, **named: Any) -> AsyncIterator[Wire]:
    """The real server on a loopback port; *named* replaces its arguments."""
    keys = tokens.keys("files")
    health, metrics, echo = Health(), Metrics(), servicer or _echo()
    arguments: dict[str, Any] = {
        "service": "files", "verifier": Verifier("files", lambda: keys), "health": health, "metrics": metrics,
    } | named  # fmt: skip
    server = Server("127.0.0.1:0", [(add_FileServiceServicer_to_server, echo, SERVICE)], **arguments)
    await server.start()
    address = f"127.0.0.1:{server.port}"
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Wire(echo, server, health, metrics, channel, address)
    finally:
        await server.stop()


QUICK = Limits(unary_seconds=0.2)
