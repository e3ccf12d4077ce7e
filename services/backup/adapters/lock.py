"""One engine at a time on this machine, whichever process asks: the kernel frees the lock however its holder ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from services.backup.domain.errors import BackupBusy

WAIT = (
    "Wait for its end: `holdfast backup list` and `holdfast drill list` show what runs. A drill ends at once by"
    " `holdfast drill cancel NAME`."
)


class EngineLock:
    """An exclusive flock on a file. Source: flock(2)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self, what: str) -> None:
        """Hold the lock for *what*. Raises BackupBusy, naming the holder, when it is held."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another of its tasks"
            os.close(handle)
            raise BackupBusy(f"Busy: {holder} is running. {WAIT}", holder=holder) from None
        self._handle = handle
        # For people alone: a full disk must not cost the lock.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, what.encode(), 0)

    def free(self) -> None:
        """Let go; harmless when not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
