"""One writer of the repository at a time, on whatever host: a lock in Postgres, and the lock of this machine.

The engine's own locks are files, which two hosts or two containers do not share. Postgres' lock lives as long as its
session, which nothing else uses; so whoever holds it and dies frees it. Where Postgres is away the file alone guards:
a backup cannot be taken then, and expiry and verify may go on. Source: PostgreSQL manual, 13.3.5 and 9.28.10.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psycopg

from libs.observability import log
from libs.timeouts import within
from services.backup.adapters.lock import WAIT, EngineLock
from services.backup.domain.errors import BackupBusy

_log = log.get(__name__)
_END_SECONDS = 5.0


class Exclusive:
    """Both locks. settings: how to reach Postgres without a pool; a pooler that shares sessions would break the lock.

    stanza: names the lock, so that two installations in one cluster do not meet.
    """

    def __init__(self, file: Callable[[], EngineLock], settings: Mapping[str, Any], stanza: str) -> None:
        self._file = file()
        self._settings = settings
        self._key = int.from_bytes(hashlib.sha256(f"holdfast-backup|{stanza}".encode()).digest()[:8], signed=True)
        self._session: psycopg.AsyncConnection[Any] | None = None

    async def take(self, what: str) -> None:
        """Hold both for *what*. Raises BackupBusy, naming the holder, when another holds either."""
        self._file.take(what)
        try:
            await self._take_in_postgres(what)
        except BaseException:
            self._file.free()
            raise

    async def free(self) -> None:
        """Let go of both; harmless when not held."""
        session, self._session = self._session, None
        try:
            if session is not None:
                # A session that does not answer ends with its connection, and the lock with it.
                with suppress(psycopg.Error, OSError, TimeoutError):
                    await within(_END_SECONDS, session.close())
        finally:
            self._file.free()

    @property
    def shared(self) -> bool:
        """Whether other hosts see this lock: False when it was taken while Postgres was away."""
        return self._session is not None

    async def _take_in_postgres(self, what: str) -> None:
        try:
            session = await psycopg.AsyncConnection.connect(**self._named(what), autocommit=True)
        except (psycopg.Error, OSError) as error:
            _log.warning("lock_of_this_machine_only", what=what, fault=type(error).__name__)
            return
        try:
            answer = await (await session.execute("SELECT pg_try_advisory_lock(%s)", [self._key])).fetchone()
            if answer is None or not answer[0]:
                raise BackupBusy(f"Busy: {await self._holder(session)}. {WAIT}", holder="another host")
        except BaseException as error:
            await session.close()
            if isinstance(error, psycopg.Error):
                _log.warning("lock_of_this_machine_only", what=what, fault=type(error).__name__)
                return
            raise
        self._session = session

    def _named(self, what: str) -> dict[str, Any]:
        return {**self._settings, "application_name": f"holdfast-backup {what}"[:63]}

    async def _holder(self, session: psycopg.AsyncConnection[Any]) -> str:
        """Who holds it, as far as this role may see."""
        high, low = (self._key >> 32) & 0xFFFFFFFF, self._key & 0xFFFFFFFF
        found = await session.execute(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.classid::bigint = %s AND l.objid::bigint = %s AND l.objsubid = 1"
            " AND l.granted",
            [high, low],
        )
        row = await found.fetchone()
        doing = str(row[0]).removeprefix("holdfast-backup ") if row and row[0] else "a backup, expiry or verification"
        return f"{doing} is running on another host"
