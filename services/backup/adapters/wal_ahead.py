"""WAL segments fetched before the copy asks for them, so that a long replay does not wait for the store at each one."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from libs.errors import AppError
from services.backup.domain import wal

Fetch = Callable[[str, Path], Coroutine[Any, Any, bool]]

MOST = 2
"""Segments that are fetched, or lie here, before they were asked for: each costs a process and a segment's bytes."""
IN_A_ROW = 3
"""So many have to be asked for one after the other first: a short replay has ended by then."""


class WalAhead:
    """Keeps its segments in *directory*, which is there. fetch(name, destination): whether the archive has it.

    What goes wrong here is nobody's fault yet: whoever asks for that segment fetches it again, in earnest.
    """

    def __init__(self, fetch: Fetch, directory: Path) -> None:
        self._fetch, self._directory = fetch, directory
        self._fetching: dict[str, asyncio.Task[bool]] = {}
        self._last, self._row = "", 0

    async def take(self, name: str, destination: Path) -> bool:
        """Put segment *name* at *destination*; False when it was not fetched ahead."""
        ahead = self._fetching.pop(name, None)
        if ahead is None or not await _there(ahead):
            return False
        (self._directory / name).replace(destination)
        return True

    def served(self, name: str) -> None:
        """Segment *name* is being replayed: fetch those that follow it."""
        self._row = self._row + 1 if self._last and wal.following(self._last) == name else 1
        self._last = name
        wanted = list(_behind(name)) if self._row >= IN_A_ROW else []
        for other in [one for one, ahead in self._fetching.items() if one not in wanted and ahead.done()]:
            self._forget(other)
        for following in wanted:
            if following not in self._fetching and len(self._fetching) < MOST:
                self._fetching[following] = asyncio.create_task(self._fetch(following, self._directory / following))

    def _forget(self, name: str) -> None:
        """The replay went another way, as on another timeline."""
        ahead = self._fetching.pop(name)
        _ = ahead.cancelled() or ahead.exception()  # taken note of, or asyncio would complain
        (self._directory / name).unlink(missing_ok=True)

    async def stop(self) -> None:
        """Fetch nothing more."""
        for ahead in self._fetching.values():
            ahead.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)
        self._fetching.clear()


def _behind(name: str) -> Iterator[str]:
    for _ in range(MOST):
        name = wal.following(name)
        yield name


async def _there(ahead: "asyncio.Task[bool]") -> bool:
    try:
        return await ahead
    except AppError:
        return False
