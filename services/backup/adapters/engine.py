"""What a backup engine has to be able to do; pgBackRest is the first one."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from services.backup.domain.listing import Listing
from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.verification import Verification


class Engine(Protocol):
    """A repository of backups and WAL. Every method raises EngineFailed, EngineAway or BackupBusy."""

    async def version(self) -> str:
        """Name and version, for records."""
        ...

    async def inspect(self) -> Repository:
        """What the repository holds now, asked of the repository itself."""
        ...

    async def probe(self) -> None:
        """Return when the store answers. Raises EngineAway soon when it does not."""
        ...

    async def backup(self, type: BackupType, progress: Callable[[float], None]) -> Stored:
        """Take one backup and return it as the repository lists it; *progress* gets 0 to 100."""
        ...

    async def verify(self) -> Verification:
        """Read everything in the repository again."""
        ...

    async def listing(self) -> Listing:
        """Every object in the repository, as its store lists them."""
        ...

    async def expire(self) -> None:
        """Delete what the retention no longer asks for, whether or not backups succeed."""
        ...

    async def remove(self, label: str) -> None:
        """Delete one backup, what builds on it, and WAL that no other needs; refused for the only full one."""
        ...

    async def create_stanza(self) -> None:
        """Make the server known to the repository; repeating it is safe."""
        ...

    async def upgrade_stanza(self) -> None:
        """Follow the server to its new version or identity."""
        ...

    async def dropped(self) -> frozenset[str]:
        """WAL segments that the engine says it has thrown away unarchived."""
        ...

    async def restore(
        self, label: str, *, target: datetime | None, lsn: str = "", data_dir: Path, work_dir: Path
    ) -> None:
        """Write backup *label* to *data_dir*, which must not exist, ready to recover to *target*, archiving nothing.

        lsn: a place in the WAL instead; recovery ends after the first record that begins there or behind it.
        work_dir: for the engine's locks, spool, logs and tablespaces of the copy.
        """
        ...

    async def fetch_wal(self, name: str, destination: Path, *, data_dir: Path, work_dir: Path) -> bool:
        """Put segment or history file *name* at *destination*; False when the archive has none of that name."""
        ...
