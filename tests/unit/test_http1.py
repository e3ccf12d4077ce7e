"""The hot-path HTTP server: framing, limits, deadlines."""

import asyncio

import pytest

from libs.http1 import Limits, Request, Response, Stream
from tests.unit.lines import Lines
from tests.unit.peer import DEADLINE, echo, get, peer, serving, until


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
