"""The life of long work across restarts: cleaned up at the start, ended in order at the stop."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

from libs.observability import log
from services.backup.adapters import isolation
from services.backup.adapters.lock import EngineLock
from services.backup.domain.errors import BackupBusy, EngineAway
from services.backup.ops.backups import Backups
from services.backup.ops.drills import Drills
from services.backup.ops.run import Tools

_log = log.get(__name__)


class Keeper:
    """A Part. At the start it finds out how a copy can be shut in, and is the reaper of what a killed process left.

    alone: held for as long as the service lives; a second one on the same state would show lists without the first's.
    """

    def __init__(
        self, alone: EngineLock, lock: Callable[[], EngineLock], backups: Backups, drills: Drills, tools: Tools
    ) -> None:
        self._alone = alone
        self._tools = tools
        self._lock = lock
        self._backups = backups
        self._drills = drills

    async def start(self) -> None:
        """Clean up, unless another process is at work here: then what it works on is no leftover.

        Raises BackupBusy when another service works on the same state.
        """
        self._tools.drills_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._alone.take(f"process {os.getpid()}")
        except BackupBusy as busy:
            state, holder = self._tools.drills_dir.parent, busy.facts.get("holder", "")
            fault = f"Another backup service ({holder}) works in {state}: end it, or give this one its own state_dir."
            _log.error("state_dir_taken", fault=fault)
            raise BackupBusy(fault, holder=holder) from None
        found = await isolation.strongest()
        self._tools.servers = replace(self._tools.servers, isolation=found)
        _log.info("isolation", means=found.description)
        lock = self._lock()
        try:
            lock.take("clean-up")
        except (BackupBusy, EngineAway) as fault:
            _log.warning("clean_up_skipped", fault=fault.message)
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
        self._alone.free()

    def _recover(self) -> None:
        self._backups.recover()
        self._drills.recover()
