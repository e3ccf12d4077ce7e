"""Answers without an end: bytes go straight to the transport, and a reader that does not read is let go.

Memory held for a reader is bounded by `buffer_bytes`; a reader that leaves the buffer full for the server's
write_seconds is cut. Framing is chunked, so that the edge can tell an end from a break.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from libs.http1.message import Header, head_block

BUFFER_BYTES = 64 * 1024
_END = b"0\r\n\r\n"


class StreamClosed(ConnectionError):
    """The reader has gone, was cut, or the stream has been closed."""


def frame(data: bytes) -> bytes:
    """*data* (not empty) as one chunk: made once, sent to many by `Stream.send_framed`."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream:
    """What a handler returns to go on answering.

    run: when given, is awaited with the stream in the request's own task; the stream closes when it returns, and it is
    cancelled when the reader leaves. Without it the stream lives until `close()` or until the reader leaves, and
    whoever keeps it writes. on_close is called once, whatever ended it. on_drain is called when the server drains: say
    goodbye and close; without it the server closes the stream.
    """

    __slots__ = ("_buffer_bytes", "_closed", "_resumed", "_transport", "head", "on_close", "on_drain", "run", "status")

    def __init__(
        self,
        status: int = 200,
        headers: Iterable[Header] = (),
        *,
        run: Callable[["Stream"], Awaitable[None]] | None = None,
        on_close: Callable[["Stream"], None] | None = None,
        on_drain: Callable[["Stream"], None] | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self.status, self.run, self.on_close, self.on_drain = status, run, on_close, on_drain
        self.head = head_block(status, headers) + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        self._buffer_bytes = buffer_bytes
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._resumed: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed or (self._transport is not None and self._transport.is_closing())

    @property
    def buffered(self) -> int:
        """Bytes sent that the reader's kernel has not yet taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> bool:
        """Send *data* now. False: the reader's buffer is full and nothing was sent. Raises StreamClosed."""
        return self.send_framed(frame(data)) if data else True

    def send_framed(self, framed: bytes) -> bool:
        """Like `send`, of bytes made by `frame`."""
        transport = self._transport
        if transport is None or self.closed:
            raise StreamClosed("The stream has ended.")
        # Only what is left over after earlier sends counts: one event larger than the buffer still passes.
        if transport.get_write_buffer_size() >= self._buffer_bytes:
            return False
        transport.write(framed)
        return True

    async def write(self, data: bytes) -> None:
        """Send *data*, waiting while the reader's buffer is full. Raises StreamClosed when it ends meanwhile."""
        while not self.send(data):
            if self._resumed is None or self._resumed.done():
                self._resumed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._resumed)

    def close(self) -> None:
        """End the answer properly; what was sent is still delivered. Closing twice does nothing."""
        transport = self._transport
        if self._closed:
            return
        if transport is not None and not transport.is_closing():
            transport.write(_END)
            transport.close()
        self._ended()

    # The connection's side.

    def _opened(self, transport: asyncio.Transport) -> None:
        # The transport calls back when it falls to the low mark, so high and low are a stream's own here.
        transport.set_write_buffer_limits(high=self._buffer_bytes - 1, low=self._buffer_bytes // 2)
        transport.write(self.head)
        self._transport = transport

    def _resume(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def _ended(self) -> None:
        if not self._closed:
            self._closed = True
            self._resume()
            if self.on_close is not None:
                self.on_close(self)
