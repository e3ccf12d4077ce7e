"""A server to talk to and a client that sends bytes as it likes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from libs.http1 import Handler, Request, Response, Server, Stream

DEADLINE = 10.0


async def echo(request: Request) -> Response:
    """Says what was understood."""
    body = f"{request.method} {request.path}?{request.query} {request.body.decode()} {request.header('x-a')}"
    return Response(200, [("content-type", "text/plain")], body.encode())


@asynccontextmanager
async def serving(handle: Handler = echo, **options: object) -> AsyncIterator[Server]:
    server = Server("127.0.0.1:0", handle, **options)  # type: ignore[arg-type]  # options of the test at hand
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Peer:
    """A client that sends bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(DEADLINE):
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = raw.strip().split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def answer(self) -> tuple[int, bytes]:
        status, headers = await self.head()
        async with asyncio.timeout(DEADLINE):
            return status, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def chunk(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            size = int(await self.reader.readline(), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        """Everything until the server closes; ConnectionResetError counts as closed."""
        data = b""
        async with asyncio.timeout(DEADLINE):
            try:
                while more := await self.reader.read(65536):
                    data += more
            except ConnectionResetError:
                pass
        return data


@asynccontextmanager
async def peer(server: Server, buffer: int = 0) -> AsyncIterator[Peer]:
    host, _, port = server.address.rpartition(":")
    raw = socket.socket()
    if buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    except OSError:
        raw.close()
        raise
    reader, writer = await asyncio.open_connection(sock=raw, limit=buffer or 65536)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


def get(path: str = "/", headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n".encode()


async def ask(server: Server) -> int:
    """The status of one request on a connection of its own."""
    async with peer(server) as client:
        await client.send(get())
        return (await client.head())[0]


def farewell(stream: Stream) -> None:
    stream.send(b"goodbye")
    stream.close()


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not true():  # noqa: ASYNC110  # what the kernel does has no event to wait for
            await asyncio.sleep(0)
