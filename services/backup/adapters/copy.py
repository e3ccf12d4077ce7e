"""A restored server, shut in: started to recover, watched until it has been promoted, asked questions, ended."""

import asyncio
import getpass
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from libs.timeouts import within
from services.backup.adapters import command
from services.backup.adapters.isolation import Isolation
from services.backup.adapters.place import Place
from services.backup.domain.errors import EngineFailed

_FETCH = Path(__file__).with_name("fetch.py")
PORT = "5432"
SERVED = ("holdfast_auth", "holdfast_files", "holdfast_events")
_POLL_SECONDS = 0.05
_LOG_BYTES = 256 << 10
# One question reads at most a few tables of a copy as large as production.
_QUESTION_SECONDS = 7200
_ANSWER_SECONDS = _QUESTION_SECONDS + 60.0  # a server that stands still cannot end its own question
_SHUT_DOWN_SECONDS = 600.0
_REPLAYED = "redo done at"


@dataclass(frozen=True, slots=True)
class Servers:
    """How copies are started here. binaries: Postgres' own directory; superuser: of the production cluster;
    hidden: directories a copy must not see; recovery_seconds: how long replay may take."""

    binaries: Path
    superuser: str
    database: str
    isolation: Isolation
    hidden: tuple[Path, ...]
    recovery_seconds: float


class Copy:
    """One restored server. Start, then `promoted`, then `ask`; `stop` in every case."""

    def __init__(self, servers: Servers, place: Place) -> None:
        self.place = place
        self._servers = servers
        self._child: asyncio.subprocess.Process | None = None
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    async def start(self) -> int:
        """Start recovery; the server's pid."""
        place = self.place
        _prepare(place, self._servers.superuser)
        settings = [f"-c{name}={value}" for name, value in overrides(place).items()]
        program = [str(self._servers.binaries / "postgres"), "-D", str(place.data), *settings]
        isolation = self._servers.isolation
        argv = isolation.wrap(program, hide=self._servers.hidden, keep=(place.work, place.sockets))
        with place.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=command.PATH,
                cwd=place.work,
                start_new_session=True,
            )
        return self._child.pid

    async def promoted(self, replayed: Callable[[], None]) -> None:
        """Return once the server says that recovery is over, having called *replayed* when its WAL was.

        A first connection is not believed: the server is asked. Raises EngineFailed with its last words when it ends,
        or takes too long.
        """
        try:
            async with asyncio.timeout(self._servers.recovery_seconds):
                await self._until(lambda: _REPLAYED in self.log() or self._accepting())
                replayed()
                await self._until(self._accepting)
                while await self._in_recovery():  # noqa: ASYNC110 - another process has to be asked, it tells nobody
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise EngineFailed("Recovery of the copy took too long.", command="recovery") from None

    async def ask(self, question: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of one query in the copy, as its superuser. Raises EngineFailed when the copy cannot answer."""
        try:
            if self._connection is None:
                self._connection = await self._connect()
            async with asyncio.timeout(_ANSWER_SECONDS):
                cursor = await self._connection.execute(question.encode(), parameters)
                return await cursor.fetchall() if cursor.description else []
        except TimeoutError:
            raise EngineFailed("The copy's server stands still.", command="check") from None
        except psycopg.Error as error:
            raise EngineFailed(f"The copy could not answer: {error}", command="check") from error

    def log(self) -> str:
        """The newest part of the server's log."""
        with self.place.log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            return file.read().decode(errors="replace")

    async def shut_down(self) -> None:
        """End the server in order, so that its files are whole. Raises EngineFailed if it did not."""
        if self._child is None or self._child.returncode is not None:
            raise EngineFailed("The copy's server had ended already.", command="stop")
        await self._hang_up()
        self._child.send_signal(signal.SIGINT)
        try:
            await within(_SHUT_DOWN_SECONDS, self._child.wait())
        except TimeoutError:
            raise EngineFailed("The copy's server did not shut down.", command="stop") from None

    async def stop(self) -> None:
        """End the server; its data is worthless, so without a checkpoint."""
        await self._hang_up()
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGQUIT)
            await command.end(self._child, ask=False)

    async def _hang_up(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._child is None or self._child.returncode is not None:
                raise EngineFailed(f"The copy's server ended: {self._fatal()}", command="recovery")
            await asyncio.sleep(_POLL_SECONDS)

    def _accepting(self) -> bool:
        return "database system is ready to accept connections" in self.log()

    async def _in_recovery(self) -> bool:
        return bool((await self.ask("SELECT pg_is_in_recovery()"))[0][0])

    def _fatal(self) -> str:
        faults = [line for line in self.log().splitlines() if "FATAL" in line or "PANIC" in line or "rror" in line]
        return " ".join((faults or self.log().splitlines() or ["it said nothing"])[-2:])[-500:]

    async def _connect(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        return await psycopg.AsyncConnection.connect(
            host=str(self.place.sockets),
            port=int(PORT),
            dbname=self._servers.database,
            user=self._servers.superuser,
            autocommit=True,
            connect_timeout=10,
            application_name="holdfast-drill",
            options=f"-c log_statement=none -c statement_timeout={_QUESTION_SECONDS}s",
        )


def overrides(place: Place) -> Mapping[str, str]:
    """Settings given on the command line, which beat every file that came with the backup.

    Nobody but this user by one socket; nothing archived, sent, subscribed, preloaded; replay without standby fitting.
    """
    return {
        "config_file": str(place.work / "postgresql.conf"),
        "hba_file": str(place.work / "hba.conf"),
        "ident_file": str(place.work / "ident.conf"),
        "listen_addresses": "",
        "unix_socket_directories": str(place.sockets),
        "unix_socket_permissions": "0700",
        "port": PORT,
        "restore_command": f'"{sys.executable}" -I -S "{_FETCH}" "{place.wal_socket}" %f %p',
        "archive_mode": "off",
        "archive_command": "",
        "archive_library": "",
        "archive_cleanup_command": "",
        "recovery_end_command": "",
        "hot_standby": "off",
        "primary_conninfo": "",
        "primary_slot_name": "",
        "synchronous_standby_names": "",
        "max_logical_replication_workers": "0",
        "shared_preload_libraries": "",
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "ssl": "off",
        "autovacuum": "off",
        "max_connections": "40",
        "max_prepared_transactions": "64",
        "shared_buffers": "64MB",
        "dynamic_shared_memory_type": "mmap",
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_line_prefix": "%m ",
        "log_min_messages": "log",
        "log_timezone": "UTC",
        "lc_messages": "C",
    }


def _prepare(place: Place, superuser: str) -> None:
    """The copy's own files of settings: its superuser, and the services' roles for a smoke of a full drill, each by the
    operating system's word that it is us.
    """
    roles = (superuser, *SERVED)
    (place.work / "postgresql.conf").write_text("# Every setting is on the command line.\n", encoding="utf-8")
    (place.work / "hba.conf").write_text(
        "".join(f'local all "{role}" peer map=drill\n' for role in roles), encoding="utf-8"
    )
    (place.work / "ident.conf").write_text(
        "".join(f'drill "{getpass.getuser()}" "{role}"\n' for role in roles), encoding="utf-8"
    )
    with suppress(FileNotFoundError):
        (place.data / "standby.signal").unlink()
