"""One connection: bytes in, requests in order, answers out, and a deadline for each state it can be in."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import httptools

from libs.http1.message import Request, Response
from libs.http1.stream import Stream, StreamClosed

if TYPE_CHECKING:
    from libs.http1.server import Server

_log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response | Stream]]


class _Refused(Exception):
    """A request breaks a limit; the answer closes the connection."""


class Connection(asyncio.Protocol):
    """The asyncio protocol of one connection; the server's sweep reads `deadline`."""

    __slots__ = (
        "_body",
        "_body_size",
        "_busy",
        "_head_size",
        "_headers",
        "_hosts",
        "_parser",
        "_paused",
        "_peer",
        "_queue",
        "_reading",
        "_refusal",
        "_server",
        "_since_begin",
        "_task",
        "_transport",
        "_url",
        "deadline",
        "stream",
    )

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Request | int] = deque()
        self._task: asyncio.Task[None] | None = None
        self._busy = self._reading = self._paused = False
        self._refusal = 0
        self._since_begin = 0
        self._peer = ""
        self.deadline = math.inf
        self.stream: Stream | None = None
        self.on_message_begin()
        self._reading = False

    # ---- asyncio's side ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse when the server is full or leaving."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._server.admit(self):
            self._transport.abort()
            return
        self.deadline = self._server.time() + self._server.limits.read_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything; whoever works for this peer is told by cancellation."""
        self._server.forget(self)
        self._transport = self._parser = None
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
        if self.stream is not None:
            self.stream._ended()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it does not accept ends the connection."""
        if self._parser is None:
            # Bytes after the request of a stream or of a last request: nobody will read them.
            if self.stream is not None:
                self.abort()
            return
        if self._reading:
            self._since_begin += len(data)
            if self._since_begin > self._server.limits.head_bytes + self._server.limits.body_bytes:
                self._refuse(431)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserError:
            self._refuse(self._refusal or 400)
        else:
            if len(self._queue) >= self._server.limits.pipelined and self._transport is not None:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """A half-closed peer cannot be told from one that left: end."""
        return False

    def pause_writing(self) -> None:
        """The peer does not read: it has write_seconds to go on."""
        self._paused = True
        self.deadline = self._server.time() + self._server.limits.write_seconds

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._paused = False
        if self.stream is not None:
            self.deadline = math.inf
            self.stream._resume()
        elif self._busy:
            self.deadline = self._server.time() + self._server.limits.handle_seconds
        else:
            self._next()

    # ---- the parser's side ----

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_size = self._head_size = self._hosts = self._since_begin = 0
        self._reading = True
        if not self._busy:
            self.deadline = self._server.time() + self._server.limits.read_seconds

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line, whole."""
        name = name.lower()
        self._grow(len(name) + len(value) + 4)
        self._headers.append((name, value))
        if len(self._headers) > self._server.limits.header_count:
            self._fail(431)
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            if int(value) > self._server.limits.body_bytes:
                self._fail(413)
        elif name == b"expect":
            self._fail(417)

    def on_headers_complete(self) -> None:
        """The head is whole: what it must have is checked before any body is read."""
        parser = self._parser
        if parser is not None and parser.get_http_version() != "1.1":
            self._fail(505)
        if self._hosts != 1 or (parser is not None and parser.should_upgrade()):
            self._fail(400)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_size += len(body)
        if self._body_size > self._server.limits.body_bytes:
            self._fail(413)
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole: answer it, or queue it behind the one being answered."""
        parser = self._parser
        if parser is None:
            return
        self._reading = False
        request = Request(
            parser.get_method().decode("ascii"),
            self._url.decode("latin-1"),
            self._headers,
            b"".join(self._body) if self._body else b"",
            keep_alive=parser.should_keep_alive(),
            peer=self._peer,
        )
        if self._busy or self._paused or self._queue:
            self._queue.append(request)
        else:
            self._begin(request)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._server.limits.head_bytes:
            self._fail(431)

    def _fail(self, status: int) -> None:
        self._refusal = status
        raise _Refused

    # ---- requests, one at a time ----

    def _begin(self, request: Request) -> None:
        self._busy = True
        server = self._server
        self.deadline = server.time() + server.limits.handle_seconds
        if server.quick is not None:
            try:
                answer = server.quick(request)
            except Exception as error:
                answer = server.failed(request, error)
            if answer is not None:
                self._answer(request, answer)
                return
        self._task = server.loop.create_task(self._handle(request))

    async def _handle(self, request: Request) -> None:
        try:
            answer = await self._server.handle(request)
        except Exception as error:
            answer = self._server.failed(request, error)
        if isinstance(answer, Response):
            self._task = None
            self._answer(request, answer)
        else:
            await self._stream(request, answer)

    def _answer(self, request: Request, response: Response) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        keep = request.keep_alive and not self._server.draining
        transport.write(response.wire(request.method, keep_alive=keep))
        self._busy = False
        if not keep:
            self._parser = None
            self.deadline = self._server.time() + self._server.limits.write_seconds
            transport.close()
        elif self._queue:
            # By the loop, so that a long pipeline neither recurses nor starves the other connections; in a fresh
            # context, so that no request inherits the ids of the one before it.
            self._server.loop.call_soon(self._next, context=self._server.context.copy())
        elif not self._paused:
            limits = self._server.limits
            self.deadline = self._server.time() + (limits.read_seconds if self._reading else limits.idle_seconds)

    def _next(self) -> None:
        if self._busy or self._paused or not self._queue or self._transport is None:
            return
        first = self._queue.popleft()
        if isinstance(first, int):
            self._cut(first)
            return
        if not self._queue:
            self._transport.resume_reading()
        self._begin(first)

    async def _stream(self, request: Request, stream: Stream) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            stream._ended()
            return
        self.deadline = math.inf
        # Parser and queue are let go: thousands of streams wait on one machine.
        self._parser = None
        self._queue.clear()
        self.stream = stream
        if request.method == "HEAD":
            self._task = None
            transport.write(stream.head)
            transport.close()
            return
        stream._opened(transport)
        if self._server.draining:
            self._server.told(stream)
        if stream.run is None:
            self._task = None
            return
        try:
            await stream.run(stream)
        except StreamClosed:
            pass
        except Exception as error:
            _log.error("stream_failed", exc_info=error, extra={"fields": {"path": request.path}})
            # No final chunk: the reader must see a break, not an end.
            self.abort()
        finally:
            self._task = None
            stream.close()

    # ---- the server's side ----

    @property
    def idle(self) -> bool:
        """Whether no request is being read, answered or streamed."""
        return not (self._busy or self._reading or self._queue or self.stream)

    def overdue(self) -> None:
        """The deadline has passed: a slow handler is answered for, anything else is cut."""
        if self._busy and self.stream is None and not self._paused and self._task is not None:
            self._task.cancel()
            self._task = None
            self._cut(503)
        elif self._reading:
            self._cut(408)
        else:
            self.abort()

    def close(self) -> None:
        """Close once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now; what was not delivered is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, status: int) -> None:
        """Read no more and answer *status*, in its turn behind the requests that came before."""
        self._parser = None
        self._reading = False
        if self._busy or self._queue:
            self._queue.append(status)
        else:
            self._cut(status)

    def _cut(self, status: int) -> None:
        """Answer *status* and close."""
        self._parser = None
        self._queue.clear()
        if self._transport is not None:
            self.deadline = self._server.time() + self._server.limits.write_seconds
            self._transport.write(Response(status).wire(keep_alive=False))
            self._transport.close()
