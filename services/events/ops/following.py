"""One connected user's stream as this replica knows it, shared by all connections of that user."""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from services.events.domain.event import Frame
from services.events.domain.position import Position, Reset, reset

Owner = tuple[str, str]
"""(organization id, user id)."""

RING_FRAMES = 256
RING_BYTES = 256 * 1024


class Reader(Protocol):
    """A connection, as the hub sees it."""

    def offer(self, frame: Frame) -> None:
        """Take *frame* at once when it is the next one and the connection is free; else look for it later."""

    def wake(self) -> None:
        """Look again: something has changed."""


class Following:
    """newest: the offset up to which readers may go; the last frames are kept in memory, older ones come from the log.

    life grows whenever the numbering has been broken (restore); `broken` then says what to tell.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.readers: set[Reader] = set()
        self.position: Position | None = None
        self.newest = 0
        self.life = 0
        self.broken: Reset | None = None
        self._ring: deque[Frame] = deque()
        self._bytes = 0

    @property
    def epoch(self) -> str:
        """The epoch of the offsets; "" before the first position is known."""
        return "" if self.position is None else self.position.epoch

    def begin(self, position: Position) -> None:
        """Take the first position read; later ones do not move what the hub has fetched up to."""
        if self.position is None:
            self.position, self.newest = position, position.newest

    def restart(self, cause: str, position: Position) -> None:
        """The numbering is another one from here on: readers are told, and go on from its newest offset."""
        self.position, self.newest = position, position.newest
        self.broken, self.life = reset(cause, position), self.life + 1
        self._ring.clear()
        self._bytes = 0
        for reader in tuple(self.readers):
            reader.wake()

    def extend(self, frames: Iterable[Frame]) -> None:
        """Add fetched frames in order and hand each to every reader."""
        for frame in frames:
            if frame.event.offset != self.newest + 1:
                self._ring.clear()
                self._bytes = 0
            self.newest = frame.event.offset
            self._ring.append(frame)
            self._bytes += len(frame.sse)
            while len(self._ring) > RING_FRAMES or (self._bytes > RING_BYTES and len(self._ring) > 1):
                self._bytes -= len(self._ring.popleft().sse)
            for reader in tuple(self.readers):
                reader.offer(frame)

    def kept(self, after: int) -> list[Frame] | None:
        """The frames after offset *after*, when all of them are still in memory; else None."""
        if not self._ring or self._ring[0].event.offset > after + 1:
            return None
        first = after + 1 - self._ring[0].event.offset
        return [self._ring[index] for index in range(first, len(self._ring))]
