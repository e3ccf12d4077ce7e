"""The local operator socket: who calls is what the kernel says, so it works when everything that could vouch is gone.

gRPC shows a servicer no peer uid. So a front listens on a 0600 socket in a 0700 directory, reads SO_PEERCRED of each
connection, and passes its bytes on to an inner server that serves that one uid and no other: the principal is a
property of the inner socket, and nothing a caller sends can change it. Source: unix(7).
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from libs.observability import log
from libs.process import Part
from libs.rpc.server import remove_stale

_log = log.get(__name__)
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_CHUNK_BYTES = 1 << 16
_INNER = "inner"


class Front:
    """A Part: the socket at *path*. inner: makes the server that serves operator "uid:N" at an address.

    uids: who is an operator, see `operators`; everybody else is hung up on.
    """

    def __init__(self, path: Path, inner: Callable[[str, str], Part], *, uids: Iterable[int]) -> None:
        self._path = path
        self._inner = inner
        self._allowed = frozenset(uids)
        self._servers: dict[int, Part] = {}
        self._starting = asyncio.Lock()
        self._listening: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Make the directories, listen."""
        for directory in (self._path.parent, self._path.parent / _INNER):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        remove_stale(self._path)
        mask = os.umask(0o177)
        try:
            self._listening = await asyncio.start_unix_server(self._serve, self._path)
        finally:
            os.umask(mask)

    def refuse(self) -> None:
        """Tell the inner servers; callers are still served."""
        for server in self._servers.values():
            server.refuse()

    async def drain(self, seconds: float) -> None:
        """Take no new connection; let calls end within *seconds*."""
        if self._listening is not None:
            self._listening.close()
        await asyncio.gather(*(server.drain(seconds) for server in self._servers.values()))

    async def stop(self) -> None:
        """Cut what is left and remove the socket."""
        if self._listening is not None:
            self._listening.close()
        for server in self._servers.values():
            await server.stop()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            uid = peer_uid(writer.get_extra_info("socket"))
            if uid not in self._allowed:
                _log.warning("operator refused", uid=uid)
                return
            inner_reader, inner_writer = await asyncio.open_unix_connection(await self._address(uid))
            try:
                await _pass_both(reader, writer, inner_reader, inner_writer)
            finally:
                inner_writer.close()
        except ConnectionError:
            _log.debug("operator hung up")
        finally:
            self._passing.discard(task)
            writer.close()

    async def _address(self, uid: int) -> str:
        """The inner socket of *uid*, its server started when this is the first call."""
        path = self._path.parent / _INNER / f"{uid}.sock"
        async with self._starting:
            if uid not in self._servers:
                server = self._inner(f"unix:{path}", f"uid:{uid}")
                await server.start()
                self._servers[uid] = server
        return str(path)


def operators(further: Iterable[int] = ()) -> frozenset[int]:
    """Root, this process's own user, and *further* ones, who need access to the socket's directory as well."""
    return frozenset({0, os.geteuid(), *further})


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process at the other end of a Unix socket, as the kernel recorded it at connect."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


async def _pass_both(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    inner_reader: asyncio.StreamReader,
    inner_writer: asyncio.StreamWriter,
) -> None:
    ways = {
        asyncio.create_task(_pass_on(reader, inner_writer)),
        asyncio.create_task(_pass_on(inner_reader, writer)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(_CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
