"""The session on disk: one file per edge, for its owner's eyes only, shared by every `holdfast` of that person."""

import asyncio
import fcntl
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from holdfast.session import Session


def folder() -> Path:
    """`$XDG_STATE_HOME/holdfast`, by default under ~/.local/state. Source: XDG Base Directory specification."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "holdfast"


class SavedSession:
    """A holdfast.session.Store in a file of mode 0600, named after the edge."""

    def __init__(self, edge_url: str) -> None:
        name = re.sub(r"[^0-9A-Za-z.-]", "_", urlsplit(edge_url).netloc)
        self.path = folder() / f"{name}.json"

    def load(self) -> Session | None:
        """The session as the file has it now; None when there is none, or it cannot be understood."""
        try:
            return Session(**json.loads(self.path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, session: Session | None) -> None:
        """Replace the file in one step, or remove it."""
        if session is None:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}.part")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(session), file)
        fresh.replace(self.path)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """One process at a time: a refresh token that is used twice ends the session."""
        descriptor = await asyncio.to_thread(self._lock)
        try:
            yield
        finally:
            os.close(descriptor)

    def _lock(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor
