"""The hot-path HTTP server's life: draining, sockets, what one request leaves to the next."""

import asyncio
import os
import random
import socket
import stat
from collections.abc import Awaitable
from pathlib import Path

import pytest

from libs.http1 import Limits, Request, Response, Server, Stream
from libs.observability import context
from tests.unit.peer import DEADLINE, Peer, ask, echo, farewell, get, peer, serving, until


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


PIECES = (
    get("/"),
    get("/stream"),
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n",
)


async def noise(server: Server, seed: int) -> None:
    """Send requests with some bytes changed, in pieces of any size, and leave in any manner."""
    chosen = random.Random(seed)
    data = bytearray(b"".join(chosen.choice(PIECES) for _ in range(chosen.randint(1, 10))))
    for _ in range(chosen.choice((0, 0, 1, 3))):
        data[chosen.randrange(len(data))] = chosen.randrange(256)
    async with peer(server) as client:
        while data and not client.writer.is_closing():
            size = chosen.choice((1, 3, 17, 200, 5000))
            client.writer.write(bytes(data[:size]))
            del data[:size]
            await asyncio.sleep(0)
        if chosen.random() < 0.5:
            await client.rest()


async def test_noise_leaves_no_connection_behind_and_raises_nothing_in_the_loop() -> None:
    async def handle(request: Request) -> Response | Stream:
        if request.path == "/stream":
            return Stream(run=lambda stream: stream.write(b"x" * 20_000))
        return Response(200, body=request.body)

    raised: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, told: raised.append(told))
    try:
        async with serving(handle, limits=Limits(read_seconds=0.2, idle_seconds=0.2, write_seconds=0.2)) as server:
            for batch in range(4):
                await asyncio.gather(*(noise(server, batch * 50 + number) for number in range(50)))
            await until(lambda: server.connections == 0)
            assert await ask(server) == 200
    finally:
        loop.set_exception_handler(None)
    assert raised == []
