"""The listener: a Part that accepts, sweeps overdue connections, and drains."""

import asyncio
import contextlib
import contextvars
import errno
import logging
import math
import os
import socket
from collections.abc import Callable

from libs.config import address as parse_address
from libs.http1.connection import Connection, Handler
from libs.http1.message import Limits, Request, Response
from libs.http1.stream import Stream

_log = logging.getLogger(__name__)
BACKLOG = 4096
SOCKET_MODE = 0o600

__all__ = ["Handler", "Server"]


class Server:
    """Serves *handle* on *address* (`unix:/path` or `host:port`; port 0 chooses one). A libs.process Part.

    quick: asked first and without a task; None sends the request on to *handle*. It must not block,
    nor set context variables.
    on_error: the answer for what a handler raised; by default 500, logged by class. mode: of the Unix socket.
    """

    def __init__(
        self,
        address: str,
        handle: Handler,
        *,
        quick: Callable[[Request], Response | None] | None = None,
        on_error: Callable[[Request, Exception], Response] | None = None,
        limits: Limits | None = None,
        mode: int = SOCKET_MODE,
    ) -> None:
        self.handle, self.quick, self.limits = handle, quick, limits or Limits()
        self.draining = False
        self.address = address
        """Where it listens; after `start` with the port that was chosen."""
        self.loop: asyncio.AbstractEventLoop
        self.time: Callable[[], float]
        self.context: contextvars.Context
        self._on_error, self._mode = on_error, mode
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._inode = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken by a live process or cannot be had."""
        self.loop = asyncio.get_running_loop()
        self.time = self.loop.time
        self.context = contextvars.copy_context()
        self._empty = asyncio.Event()
        self._empty.set()
        where = parse_address(self.address)
        if isinstance(where, str):
            listening = self._unix(where)
            self._listener = await self.loop.create_unix_server(self._accept, sock=listening, backlog=BACKLOG)
        else:
            self._listener = await self.loop.create_server(self._accept, *where, backlog=BACKLOG, reuse_address=True)
            self.address = f"{where[0]}:{self._listener.sockets[0].getsockname()[1]}"
        self._sweep()

    def refuse(self) -> None:
        """Nothing changes yet: health speaks for the process, and the edge needs its answers."""

    async def drain(self, seconds: float) -> None:
        """Accept no more, close idle connections, tell streams, and wait at most *seconds* for the rest to end."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            if connection.stream is not None:
                self.told(connection.stream)
            elif connection.idle:
                connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()

    async def stop(self) -> None:
        """Cut what is left and remove the socket."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._listener is None:
            return
        self._listener.close()
        for connection in list(self._connections):
            connection.abort()
        await self._empty.wait()
        where = parse_address(self.address)
        if isinstance(where, str):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(where).st_ino == self._inode:
                    os.unlink(where)

    # ---- the connections' side ----

    def admit(self, connection: Connection) -> bool:
        """Take *connection* in; False when full or draining."""
        if self.draining or len(self._connections) >= self.limits.connections:
            return False
        self._connections.add(connection)
        self._empty.clear()
        return True

    def forget(self, connection: Connection) -> None:
        """*connection* has ended."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def told(self, stream: Stream) -> None:
        """Tell *stream* that the server is leaving."""
        if stream.on_drain is None:
            stream.close()
            return
        try:
            stream.on_drain(stream)
        except Exception as error:
            _log.error("goodbye_failed", exc_info=error)
            stream.close()

    def failed(self, request: Request, error: Exception) -> Response:
        """The answer for what a handler raised."""
        if self._on_error is not None:
            try:
                return self._on_error(request, error)
            except Exception as second:
                error = second
        about = {"method": request.method, "path": request.path}
        _log.error("handler_failed", exc_info=error, extra={"fields": about})
        return Response(500)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def _accept(self) -> Connection:
        return Connection(self)

    def _sweep(self) -> None:
        # One pass for all connections is cheaper than a timer for each request.
        now = self.time()
        for connection in list(self._connections):
            if connection.deadline < now:
                connection.overdue()
            elif connection.stream is not None and connection.stream.closed and connection.deadline == math.inf:
                # Closed by its writer: what is left has to go out within the time a full buffer gets.
                connection.deadline = now + self.limits.write_seconds
        shortest = min(self.limits.read_seconds, self.limits.handle_seconds, self.limits.write_seconds)
        self._sweeper = self.loop.call_later(min(1.0, shortest / 2), self._sweep)

    def _unix(self, path: str) -> socket.socket:
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before bind: the file is never there with another mode.
            os.fchmod(listening.fileno(), self._mode)
            listening.bind(path)
        except OSError:
            listening.close()
            raise
        self._inode = os.stat(path).st_ino
        return listening


def _remove_stale(path: str) -> None:
    """Remove the socket of a process that was killed; raises OSError when a live one listens on it."""
    if not os.path.exists(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, "another process listens on this socket", path)
