"""Answers without an end: back pressure, cuts, ends."""

import asyncio

import pytest

from libs.http1 import Limits, Request, Stream, StreamClosed, frame
from tests.unit.lines import Lines
from tests.unit.peer import DEADLINE, get, peer, serving, until


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
        await until(lambda: bool(closed))
        assert closed == [stream]
        assert stream.closed
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
