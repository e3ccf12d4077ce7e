"""The hot-path HTTP server: framing, limits, deadlines, back pressure, draining."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.http1 import Handler, Limits, Request, Response, Server, Stream, StreamClosed, frame
from tests.unit.lines import Lines

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


async def test_requests_on_one_connection_are_answered_in_turn() -> None:
    async with serving() as server, peer(server) as client:
        for number in range(3):
            await client.send(get(f"/p{number}?q={number}", "X-A: 1\r\nx-a: 2\r\n"))
            assert await client.answer() == (200, f"GET /p{number}?q={number}  1, 2".encode())
        assert server.connections == 1


async def test_pipelined_requests_are_answered_in_order_although_the_first_takes_longest() -> None:
    release = asyncio.Event()

    async def handle(request: Request) -> Response:
        if request.path == "/0":
            await release.wait()
        return Response(200, body=request.path.encode())

    async with serving(handle) as server, peer(server) as client:
        await client.send(b"".join(get(f"/{number}") for number in range(200)))
        release.set()
        assert [await client.answer() for _ in range(200)] == [(200, f"/{n}".encode()) for n in range(200)]


async def test_a_request_in_single_bytes_is_understood() -> None:
    async with serving() as server, peer(server) as client:
        for byte in b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc":
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.answer() == (200, b"POST /a? abc ")


async def test_a_chunked_body_is_understood_and_counted() -> None:
    async with serving(limits=Limits(body_bytes=5)) as server:
        async with peer(server) as client:
            await client.send(
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            )
            assert await client.answer() == (200, b"POST /? abcde ")
        async with peer(server) as client:
            await client.send(
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"
            )
            assert (await client.answer())[0] == 413


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\nhost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 64 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 17_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 17_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
    ],
)
async def test_what_is_not_strictly_http_or_too_large_is_refused_and_closed(raw: bytes, status: int) -> None:
    seen: list[str] = []

    async def handle(request: Request) -> Response:
        seen.append(request.path)
        return Response()

    async with serving(handle) as server:
        async with peer(server) as client:
            await client.send(raw)
            assert (await client.answer())[0] == status
            assert await client.rest() == b""
        assert seen == []
        async with peer(server) as client:
            await client.send(b"GET /ok HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 63 + b"\r\n")
            assert (await client.answer())[0] == 200
        assert seen == ["/ok"]


async def test_a_header_that_never_ends_is_cut_before_it_fills_the_memory() -> None:
    async with serving(limits=Limits(head_bytes=1000, body_bytes=1000)) as server, peer(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx: ")
        sent = 0
        while server.connections and sent < 1_000_000:
            client.writer.write(b"y" * 500)
            sent += 500
            await asyncio.sleep(0)
        assert 1000 < sent < 1_000_000


async def test_a_bad_request_waits_for_the_answers_before_it() -> None:
    async with serving() as server, peer(server) as client:
        await client.send(get("/good") + b"GARBAGE\r\n\r\n")
        assert await client.answer() == (200, b"GET /good?  ")
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""


async def test_a_slow_request_is_answered_408_and_an_idle_connection_is_closed() -> None:
    async with serving(limits=Limits(read_seconds=0.05, idle_seconds=0.05)) as server:
        async with peer(server) as slow:
            await slow.send(b"GET / HTTP/1.1\r\nhost:")
            assert (await slow.answer())[0] == 408
        async with peer(server) as silent:
            assert await silent.rest() == b""
        async with peer(server) as idle:
            await idle.send(get())
            assert (await idle.answer())[0] == 200
            assert await idle.rest() == b""


async def test_a_handler_that_hangs_is_cancelled_and_answered_for() -> None:
    ended = asyncio.Event()

    async def handle(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Response()

    async with serving(handle, limits=Limits(handle_seconds=0.05)) as server, peer(server) as client:
        await client.send(get())
        assert (await client.answer())[0] == 503
        await ended.wait()


async def test_a_peer_that_leaves_cancels_what_is_done_for_it() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handle(request: Request) -> Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Response()

    async with serving(handle) as server:
        async with peer(server) as client:
            await client.send(get())
            await begun.wait()
        async with asyncio.timeout(DEADLINE):
            await ended.wait()
        await until(lambda: server.connections == 0)


async def test_a_fault_of_a_handler_is_500_without_its_text_and_the_connection_goes_on(lines: Lines) -> None:
    async def handle(request: Request) -> Response:
        if request.path == "/bad":
            raise RuntimeError("canary-9")
        return Response(204)

    async with serving(handle) as server, peer(server) as client:
        await client.send(get("/bad"))
        assert await client.answer() == (500, b"")
        await client.send(get("/good"))
        assert await client.answer() == (204, b"")
    assert [line["error"] for line in lines.read() if line["event"] == "handler_failed"] == ["RuntimeError"]
    assert "canary-9" not in lines.text


async def test_the_services_own_answer_for_a_fault_is_given() -> None:
    async def handle(request: Request) -> Response:
        raise PermissionError

    def on_error(request: Request, error: Exception) -> Response:
        return Response(403, body=type(error).__name__.encode())

    async with serving(handle, on_error=on_error) as server, peer(server) as client:
        await client.send(get())
        assert await client.answer() == (403, b"PermissionError")


async def test_the_quick_path_answers_without_a_task_and_passes_on_what_it_does_not_know(lines: Lines) -> None:
    def quick(request: Request) -> Response | None:
        if request.path == "/bad":
            raise RuntimeError
        return Response(200, body=b"quick") if request.path == "/quick" else None

    async with serving(echo, quick=quick) as server, peer(server) as client:
        await client.send(get("/quick") + get("/slow") + get("/bad") + get("/quick"))
        answers = [await client.answer() for _ in range(4)]
    assert answers == [(200, b"quick"), (200, b"GET /slow?  "), (500, b""), (200, b"quick")]


async def test_head_has_the_length_and_no_body() -> None:
    async with serving() as server, peer(server) as client:
        await client.send(b"HEAD /abc HTTP/1.1\r\nhost: a\r\n\r\n" + get("/next"))
        status, headers = await client.head()
        assert (status, headers["content-length"]) == (200, "12")
        assert await client.answer() == (200, b"GET /next?  ")


async def test_connection_close_is_obeyed() -> None:
    async with serving() as server, peer(server) as client:
        await client.send(get("/", "connection: close\r\n"))
        status, headers = await client.head()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.rest() == b"GET /?  "


@pytest.mark.parametrize(
    "header",
    [("x", "a\r\nb: c"), ("x\r\ny", "a"), ("", "a"), ("x y", "a"), ("content-length", "3"), ("Connection", "close")],
)
def test_a_header_that_would_break_the_framing_is_refused(header: tuple[str, str]) -> None:
    Response(200, [("x", "fine")])
    for make in (Response, Stream):
        with pytest.raises(ValueError, match=r"header|line end"):
            make(200, [header])


async def test_more_connections_than_allowed_are_turned_away() -> None:
    async with serving(limits=Limits(connections=1)) as server:
        async with peer(server) as first:
            await first.send(get())
            assert (await first.answer())[0] == 200
            async with peer(server) as second:
                assert await second.rest() == b""
            await first.send(get())
            assert (await first.answer())[0] == 200
        await until(lambda: server.connections == 0)
        async with peer(server) as third:
            await third.send(get())
            assert (await third.answer())[0] == 200


# ---- streams ----


async def test_a_stream_is_written_as_it_happens_and_ends_properly() -> None:
    go = asyncio.Event()

    async def run(stream: Stream) -> None:
        await stream.write(b"one")
        await go.wait()
        assert stream.send(b"two")

    async def handle(request: Request) -> Stream:
        return Stream(200, [("content-type", "text/event-stream")], run=run)

    async with serving(handle) as server, peer(server) as client:
        await client.send(get())
        status, headers = await client.head()
        assert (status, headers["content-type"], headers["transfer-encoding"]) == (200, "text/event-stream", "chunked")
        assert await client.chunk() == b"one"
        go.set()
        assert [await client.chunk(), await client.chunk()] == [b"two", b""]
        assert await client.rest() == b""


async def test_a_stream_without_a_task_is_written_by_whoever_keeps_it() -> None:
    kept: asyncio.Queue[Stream] = asyncio.Queue()
    closed: list[Stream] = []

    async def handle(request: Request) -> Stream:
        stream = Stream(on_close=closed.append)
        kept.put_nowait(stream)
        return stream

    async with serving(handle) as server:
        async with peer(server) as client:
            await client.send(get())
            stream = await kept.get()
            await client.head()
            assert stream.send_framed(frame(b"shared"))
            assert await client.chunk() == b"shared"
            assert not closed
        await until(lambda: stream.closed)
        assert closed == [stream]
        with pytest.raises(StreamClosed):
            stream.send(b"late")


async def test_a_reader_that_does_not_read_fills_a_bounded_buffer_and_is_cut() -> None:
    kept: asyncio.Queue[Stream] = asyncio.Queue()
    closed = asyncio.Event()

    async def handle(request: Request) -> Stream:
        stream = Stream(on_close=lambda _: closed.set(), buffer_bytes=10_000)
        kept.put_nowait(stream)
        return stream

    async with serving(handle, limits=Limits(write_seconds=0.1)) as server, peer(server, buffer=4096) as client:
        await client.send(get())
        stream = await kept.get()
        await client.head()
        sent = 0
        while stream.send(b"x" * 1000):
            sent += 1
            assert sent < 100_000
        assert 10_000 <= stream.buffered <= 12_000
        with pytest.raises(StreamClosed):
            async with asyncio.timeout(DEADLINE):
                await stream.write(b"waits in vain")
        assert closed.is_set()
        assert server.connections == 0


async def test_a_waiting_writer_goes_on_when_the_reader_reads_again() -> None:
    total = 3_000_000

    async def run(stream: Stream) -> None:
        for _ in range(total // 1000):
            await stream.write(b"x" * 1000)

    async def handle(request: Request) -> Stream:
        return Stream(run=run, buffer_bytes=4096)

    async with serving(handle) as server, peer(server, buffer=4096) as client:
        await client.send(get())
        await client.head()
        got = 0
        while piece := await client.chunk():
            got += len(piece)
        assert got == total


async def test_a_stream_closed_before_its_reader_reads_is_still_cut_in_time() -> None:
    kept: asyncio.Queue[Stream] = asyncio.Queue()

    async def handle(request: Request) -> Stream:
        stream = Stream(buffer_bytes=10_000_000)
        kept.put_nowait(stream)
        return stream

    async with serving(handle, limits=Limits(write_seconds=0.1)) as server, peer(server, buffer=4096) as client:
        await client.send(get())
        stream = await kept.get()
        await client.head()
        stream.send(b"x" * 9_000_000)
        stream.close()
        await until(lambda: server.connections == 0)


async def test_a_stream_whose_task_fails_breaks_instead_of_ending(lines: Lines) -> None:
    async def run(stream: Stream) -> None:
        await stream.write(b"one")
        raise RuntimeError("canary-8")

    async def handle(request: Request) -> Stream:
        return Stream(run=run)

    async with serving(handle) as server, peer(server) as client:
        await client.send(get())
        await client.head()
        assert b"0\r\n\r\n" not in await client.rest()
    assert "RuntimeError" in lines.text
    assert "canary-8" not in lines.text


async def test_a_reader_that_leaves_cancels_the_streams_task() -> None:
    ended = asyncio.Event()

    async def run(stream: Stream) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def handle(request: Request) -> Stream:
        return Stream(run=run)

    async with serving(handle) as server:
        async with peer(server) as client:
            await client.send(get())
            await client.head()
        async with asyncio.timeout(DEADLINE):
            await ended.wait()


async def test_head_of_a_stream_is_its_head_alone() -> None:
    async def handle(request: Request) -> Stream:
        return Stream(200, [("content-type", "text/event-stream")])

    async with serving(handle) as server, peer(server) as client:
        await client.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await client.head())[0] == 200
        assert await client.rest() == b""


# ---- life ----


async def test_draining_finishes_what_runs_tells_streams_closes_the_idle_and_accepts_no_more() -> None:
    release = asyncio.Event()
    running = asyncio.Event()

    async def handle(request: Request) -> Response | Stream:
        if request.path == "/stream":
            return Stream(on_drain=farewell)
        if request.path == "/running":
            running.set()
            await release.wait()
        return Response(200, body=b"done")

    async with serving(handle) as server:
        async with peer(server) as idle, peer(server) as busy, peer(server) as stream:
            await idle.send(get("/"))
            await idle.answer()
            await busy.send(get("/running"))
            await stream.send(get("/stream"))
            await stream.head()
            await running.wait()
            draining = asyncio.create_task(server.drain(DEADLINE))
            assert await idle.rest() == b""
            assert [await stream.chunk(), await stream.chunk()] == [b"goodbye", b""]
            assert not draining.done()
            with pytest.raises(OSError):  # noqa: PT011  # refused or reset, as the kernel likes
                await ask(server)
            release.set()
            status, headers = await busy.head()
            assert (status, headers["connection"]) == (200, "close")
            assert await busy.rest() == b"done"
            await draining


async def test_a_drain_gives_up_when_its_time_is_over_and_stop_cuts() -> None:
    async def handle(request: Request) -> Stream:
        return Stream(on_drain=lambda stream: None)

    async with serving(handle) as server, peer(server) as client:
        await client.send(get())
        await client.head()
        await server.drain(0.01)
        assert server.connections == 1
        await server.stop()
        assert server.connections == 0
        assert await client.rest() == b""


async def test_a_unix_socket_is_only_its_owners_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = Server(f"unix:{path}", echo)
    before = os.umask(0)
    try:
        await server.start()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(str(path))
    client = Peer(reader, writer)
    await client.send(get("/u"))
    assert await client.answer() == (200, b"GET /u?  ")
    writer.close()
    await server.drain(1)
    await server.stop()
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    first, second = Server(f"unix:{path}", echo), Server(f"unix:{path}", echo)
    await first.start()
    try:
        with pytest.raises(OSError, match="another process"):
            await second.start()
        await second.stop()
        assert path.exists()
    finally:
        await first.stop()


async def test_a_taken_port_is_an_error_at_start() -> None:
    async with serving() as server:
        second = Server(server.address, echo)
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        await second.stop()


async def test_ids_set_for_one_request_are_not_seen_by_the_next() -> None:
    from libs.observability import context

    async def handle(request: Request) -> Response:
        before = context.request_id.get()
        context.request_id.set(request.path)
        await _turn()
        return Response(200, body=f"{before}>{context.request_id.get()}".encode())

    async with serving(handle) as server, peer(server) as client:
        await client.send(get("/1") + get("/2"))
        assert [await client.answer() for _ in range(2)] == [(200, b">/1"), (200, b">/2")]


def _turn() -> Awaitable[None]:
    return asyncio.sleep(0)
