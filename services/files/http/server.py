"""uvicorn as a libs.process Part: no signals of its own, a socket that only our user opens, a drain that waits."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from libs.config import address, local_address
from libs.rpc.server import remove_stale

# Only the edge connects, and it must be the one that gives up idle connections: no request may meet a closing one.
_KEEP_ALIVE_SECONDS = 4000
_LAST_WORDS_SECONDS = 1


class HttpServer:
    """Serves an ASGI application at *where* (`unix:/path` or `host:port`, port 0 for any).

    make_app: is handed a question that is true once the server drains, when new requests are refused.
    Raises ValueError for an address that another machine could reach: TLS is the edge's.
    """

    def __init__(self, where: str, make_app: Callable[[Callable[[], bool]], ASGIApp]) -> None:
        if not local_address(where):
            raise ValueError(f"{where} can be reached from other machines; HTTP is served to this one only")
        self._where = address(where)
        self._draining = False
        config = uvicorn.Config(
            make_app(lambda: self._draining),
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="none",
            http="httptools",
            ws="none",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
            backlog=1024,
        )
        self._config, self._server = config, uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; raises OSError when the address is taken."""
        self._socket = _bound(self._where)
        if not isinstance(self._where, str):
            self.port = self._socket.getsockname()[1]
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[self._socket])

    def refuse(self) -> None:
        """Nothing: health tells the edge, and requests are still answered."""

    async def drain(self, seconds: float) -> None:
        """Refuse new requests and wait until those begun have been answered, *seconds* at most."""
        self._draining = True
        for connection in list(self._server.server_state.connections):
            connection.shutdown()
        running = list(self._server.server_state.tasks)
        if running:
            await asyncio.wait(running, timeout=seconds)

    async def stop(self) -> None:
        """Stop listening and end whatever is left."""
        self._draining = True
        if self._socket is None:
            return
        await self._server.shutdown(sockets=[self._socket])
        self._socket = None
        if isinstance(self._where, str):
            remove_stale(Path(self._where))


def _bound(where: tuple[str, int] | str) -> socket.socket:
    if isinstance(where, str):
        remove_stale(Path(where))
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(where)
        # Nobody can connect before listen, so the mode is never open.
        os.chmod(where, 0o600)
    else:
        made = socket.create_server(where, family=socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
    made.setblocking(False)
    return made
