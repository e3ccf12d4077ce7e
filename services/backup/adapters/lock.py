"""One engine at a time on this machine, whichever process asks: the kernel frees the lock however its holder ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from services.backup.domain.errors import BackupBusy, EngineAway

WAIT = "Wait for its end; a drill ends at once by `holdfast drill cancel NAME`."


class EngineLock:
    """An exclusive flock on a file. Source: flock(2)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self, what: str) -> None:
        """Hold the lock for *what*. Raises BackupBusy, naming the holder, while it is held, and EngineAway."""
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise EngineAway(
                f"{self._path} cannot be opened: {fault.strerror}. Nothing is begun without this lock: give the file to"
                " the user that the service runs as, or make room for it.",
                path=str(self._path),
            ) from fault
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another of its tasks"
            os.close(handle)
            raise BackupBusy(f"Busy: {holder} is running. {WAIT}", holder=holder) from None
        self._handle = handle
        self.tell(what)

    def tell(self, what: str) -> None:
        """Have whoever is refused told that *what* holds the lock; for people alone: a full disk must not cost it."""
        if self._handle is not None:
            with suppress(OSError):
                os.ftruncate(self._handle, 0)
                os.pwrite(self._handle, what.encode(), 0)

    def free(self) -> None:
        """Let go; harmless when not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
