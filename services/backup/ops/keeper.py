"""The life of long work across restarts: cleaned up at the start, ended in order at the stop."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from libs.observability import log
from services.backup.adapters import isolation
from services.backup.adapters.lock import EngineLock
from services.backup.domain.errors import BackupBusy
from services.backup.ops.backups import Backups
from services.backup.ops.drills import Drills
from services.backup.ops.run import Tools

_log = log.get(__name__)


class Keeper:
    """A Part. At the start it finds out how a copy can be shut in, and is the reaper of what a killed process left."""

    def __init__(self, lock: Callable[[], EngineLock], backups: Backups, drills: Drills, tools: Tools) -> None:
        self._tools = tools
        self._lock = lock
        self._backups = backups
        self._drills = drills

    async def start(self) -> None:
        """Clean up, unless another process is at work here: then what it works on is no leftover."""
        self._tools.drills_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = await isolation.strongest()
        self._tools.servers = replace(self._tools.servers, isolation=found)
        _log.info("isolation", means=found.description)
        lock = self._lock()
        try:
            lock.take("clean-up")
        except BackupBusy as busy:
            _log.warning("clean_up_skipped", holder=busy.facts.get("holder", ""))
            return
        try:
            await asyncio.to_thread(self._recover)
            await self._backups.attest()
            await self._drills.attest()
        finally:
            lock.free()

    def refuse(self) -> None:
        """Nothing: the servers refuse."""

    async def drain(self, seconds: float) -> None:
        """Let a backup or drill end within half of *seconds*; then end it, its copy removed."""
        # A part of the time only, so that those who watch still learn the end.
        await asyncio.gather(self._backups.settle(seconds / 2), self._drills.settle(seconds / 2))

    async def stop(self) -> None:
        """The same at once, for a start that failed."""
        await asyncio.gather(self._backups.settle(0), self._drills.settle(0))

    def _recover(self) -> None:
        self._backups.recover()
        self._drills.recover()
