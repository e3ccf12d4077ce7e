"""What a backup engine has to be able to do; pgBackRest is the first one."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from services.backup.domain.repository import BackupType, Repository, Stored


class Engine(Protocol):
    """A repository of backups and WAL. Every method raises EngineFailed, EngineAway or BackupBusy."""

    async def version(self) -> str:
        """Name and version, for records."""
        ...

    async def inspect(self) -> Repository:
        """What the repository holds now, asked of the repository itself."""
        ...

    async def backup(self, type: BackupType, progress: Callable[[float], None]) -> Stored:
        """Take one backup and return it as the repository lists it; *progress* gets 0 to 100."""
        ...

    async def restore(self, label: str, *, target: datetime | None, data_dir: Path, work_dir: Path) -> None:
        """Write backup *label* to *data_dir*, which must not exist, ready to recover to *target*, archiving nothing.

        work_dir: for the engine's locks, spool, logs and tablespaces of the copy.
        """
        ...

    async def fetch_wal(self, name: str, destination: Path, *, data_dir: Path, work_dir: Path) -> bool:
        """Put segment or history file *name* at *destination*; False when the archive has none of that name."""
        ...
