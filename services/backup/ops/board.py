"""The newest value of each long work, and whoever waits for the next one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Board(Generic[T]):
    """Values by id. Watchers see the newest value each time they look; a slow one skips what it missed."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[int, T]] = {}
        self._changed = asyncio.Condition()
        self._version = 0

    def put(self, id: str, value: T) -> None:
        """Set the value; wakes the watchers when the loop next turns."""
        self._version += 1
        self._values[id] = (self._version, value)
        asyncio.get_running_loop().create_task(self._wake())

    def seed(self, id: str, value: T) -> None:
        """Set a value nobody can be waiting for yet."""
        self._values[id] = (0, value)

    def get(self, id: str) -> T | None:
        """The newest value, None when there is no such work."""
        found = self._values.get(id)
        return None if found is None else found[1]

    def all(self) -> list[T]:
        """Every value, in order of id."""
        return [self._values[id][1] for id in sorted(self._values)]

    async def watch(self, id: str) -> AsyncIterator[T]:
        """The value now and after each change, for as long as the caller likes; the id must exist."""
        seen = -1
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda seen=seen: self._values[id][0] > seen)  # type: ignore[misc]  # lambda
                seen, value = self._values[id]
            yield value

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
