"""One writer of the repository at a time, on whatever host: a lock in Postgres, and the lock of this machine.

The engine's own locks are files, which two hosts or two containers do not share. Postgres' lock lives as long as its
session, which nothing else uses; so whoever holds it and dies frees it. Its session may also die while the work goes
on: it is watched, the lock is taken again, and the work is broken off when that cannot be. Where Postgres is away the
file alone guards, until it is back: a backup cannot be taken then, and expiry and verify may go on. Away is a server
that cannot be reached; of one that refuses us nobody knows what it tells another host. Source: PostgreSQL manual,
13.3.5 and 9.28.10.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import psycopg

from libs import process
from libs.errors import AppError
from libs.observability import log
from libs.timeouts import within
from services.backup.adapters.answering import answers
from services.backup.adapters.lock import WAIT, EngineLock
from services.backup.domain.errors import BackupBusy, EngineAway

T = TypeVar("T")

_log = log.get(__name__)
_END_SECONDS = 5.0
_AGAIN_SECONDS = 1.0
_HOLDER = (
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.classid::bigint = %s AND l.objid::bigint = %s AND l.objsubid = 1"
    " AND l.granted"
)


class Exclusive:
    """Both locks. settings: how to reach Postgres without a pool; a pooler that shares sessions would break the lock.

    stanza: names the lock, so that two installations in one cluster do not meet. binaries: of PostgreSQL.
    """

    def __init__(
        self, file: Callable[[], EngineLock], settings: Mapping[str, Any], stanza: str, binaries: Path
    ) -> None:
        self._file = file()
        self._settings = settings
        self._binaries = binaries
        self._key = int.from_bytes(hashlib.sha256(f"holdfast-backup|{stanza}".encode()).digest()[:8], signed=True)
        self._session: psycopg.AsyncConnection[Any] | None = None
        self._watcher: asyncio.Task[NoReturn] | None = None

    async def take(self, what: str) -> None:
        """Hold both for *what*, until free.

        Raises BackupBusy, naming the holder, when another holds either, and EngineAway when Postgres answers and
        refuses to say.
        """
        self._file.take(what)
        try:
            self._session = await self._take_in_postgres(what)
        except BaseException:
            self._file.free()
            raise
        if self._session is None:
            _log.warning("lock_of_this_machine_only", what=what)
        self._watcher = asyncio.create_task(self._watch(what), name="lock")

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """What *work* gives, done under the lock that was taken.

        Raises EngineAway, with *work* cancelled and ended, when the lock was lost and cannot be taken again.
        """
        assert self._watcher is not None
        if self._watcher.done():
            work.close()
            return self._watcher.result()
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not self._watcher.done():
                return task.result()
        finally:
            await process.cancel(task)
        return self._watcher.result()

    async def free(self) -> None:
        """Let go of both; harmless when not held."""
        watcher, self._watcher = self._watcher, None
        try:
            if watcher is not None:
                watcher.cancel()  # at once, for the waiting may itself be cancelled
                with suppress(TimeoutError):
                    await within(_END_SECONDS, process.cancel(watcher))
        finally:
            self._file.free()
            session, self._session = self._session, None
            if session is not None:
                await session.close()  # waits for nobody

    @property
    def shared(self) -> bool:
        """Whether other hosts see this lock: False while Postgres is away."""
        return self._session is not None

    async def _watch(self, what: str) -> NoReturn:
        """Take the lock again whenever its session has ended. Raises EngineAway when that cannot be."""
        while True:
            if self._session is not None:
                await _ended(self._session)
                self._session = None
                _log.warning("lock_lost", what=what)
            self._session = await self._take_again(what)
            if self._session is None:
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                _log.warning("lock_taken_again", what=what)

    async def _take_again(self, what: str) -> psycopg.AsyncConnection[Any] | None:
        try:
            return await self._take_in_postgres(what)
        except AppError as error:
            cause = "Broken off, for this host had lost the repository's lock, or begun without Postgres."
            facts: dict[str, Any] = {**error.facts}
            raise EngineAway(f"{cause} {error.message}", **facts) from error

    async def _take_in_postgres(self, what: str) -> psycopg.AsyncConnection[Any] | None:
        """The session that holds the lock; None when Postgres cannot be reached. Raises BackupBusy and EngineAway."""
        fault = ""
        for _ in range(2):  # it may have come back between failing and answering
            try:
                return await self._locked(what)
            except (psycopg.Error, OSError) as error:
                fault = " ".join(str(error).rpartition("failed: ")[2].split())[:300] or type(error).__name__
            if not await answers(self._settings, self._binaries):
                return None
        raise EngineAway(
            f"Postgres answers, but not when asked for the repository's lock, which another host may hold: {fault}."
            " Mend what it names (free connections, the role's limit, the password, pg_hba.conf); then try again.",
            fault=fault,
        )

    async def _locked(self, what: str) -> psycopg.AsyncConnection[Any]:
        """A session with the lock. Raises BackupBusy when another has it; psycopg.Error and OSError."""
        session = await psycopg.AsyncConnection.connect(**self._named(what), autocommit=True)
        try:
            answer = await (await session.execute("SELECT pg_try_advisory_lock(%s)", [self._key])).fetchone()
            if answer is None or not answer[0]:
                raise BackupBusy(f"Busy: {await self._holder(session)}. {WAIT}", holder="another host")
        except BaseException:
            await session.close()
            raise
        return session

    def _named(self, what: str) -> dict[str, Any]:
        return {**self._settings, "application_name": f"holdfast-backup {what}"[:63]}

    async def _holder(self, session: psycopg.AsyncConnection[Any]) -> str:
        """Who holds it, as far as this role may see."""
        high, low = (self._key >> 32) & 0xFFFFFFFF, self._key & 0xFFFFFFFF
        row = None
        with suppress(psycopg.Error, OSError):  # somebody has it, whether or not we learn who
            row = await (await session.execute(_HOLDER, [high, low])).fetchone()
        doing = str(row[0]).removeprefix("holdfast-backup ") if row and row[0] else "a backup, expiry or verification"
        return f"{doing} is running on another host"


async def _ended(session: psycopg.AsyncConnection[Any]) -> None:
    """Return once *session* is over, and closed. A host that vanishes is noticed by TCP's keepalives."""
    with suppress(psycopg.Error, OSError):
        async for _ in session.notifies():
            pass
    await session.close()
