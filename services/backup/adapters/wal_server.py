"""The outside half of restore_command: fetches WAL for one copy, and only WAL, and only into that copy."""

import asyncio
import logging
import re
from pathlib import Path

from libs.errors import AppError
from services.backup.adapters.engine import Engine
from services.backup.adapters.place import Place
from services.backup.adapters.wal_ahead import WalAhead
from services.backup.domain import wal
from services.backup.domain.errors import EngineFailed

_NAME = re.compile(r"[0-9A-F]{24}(\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history")
_DESTINATIONS = ("pg_wal/RECOVERYXLOG", "pg_wal/RECOVERYHISTORY")
_log = logging.getLogger(__name__)


class WalServer:
    """Listens on the copy's `wal.sock` while the copy recovers. fault: the first one met, None when all went well."""

    def __init__(self, engine: Engine, place: Place) -> None:
        self.fault: AppError | None = None
        self.fetched = 0
        self._absent = ""
        self._engine = engine
        self._place = place
        self._ahead = WalAhead(self._fetch, place.work / "ahead")
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._place.wal_socket)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await self._ahead.stop()

    def explained(self, error: EngineFailed) -> AppError:
        """*error*, with which the copy's server ended, and why: it knows only that it got no WAL."""
        if self.fault is not None or not self._absent:
            return self.fault or error
        return EngineFailed(
            f"{error.message.rstrip('.')}. WAL segment {self._absent}, which recovery asked for last, is not in the"
            " archive. See `holdfast recovery status`, and drill another backup or moment.",
            command="recovery", segment=self._absent,
        )  # fmt: skip

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readline()).decode("ascii", "replace").split()
            writer.write(f"{await self._answer(request)}\n".encode())
            await writer.drain()
        except OSError as error:
            _log.warning("The copy hung up on a WAL request: %s", error.strerror)
        finally:
            writer.close()

    async def _answer(self, request: list[str]) -> str:
        if len(request) != 2 or not _NAME.fullmatch(request[0]) or request[1] not in _DESTINATIONS:
            return "refused"
        name, destination = request[0], self._place.data / request[1]
        try:
            there = await self._ahead.take(name, destination) or await self._fetch(name, destination)
        except AppError as fault:
            self.fault = self.fault or fault
            return "fault"
        self.fetched += there
        if wal.is_segment(name):
            self._absent = "" if there else name
            if there:
                self._ahead.served(name)
        return "there" if there else "none"

    async def _fetch(self, name: str, destination: Path) -> bool:
        place = self._place
        return await self._engine.fetch_wal(name, destination, data_dir=place.data, work_dir=place.work)
