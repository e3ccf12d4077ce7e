"""How far this worker has come in each lane, so that a claim does not walk over what was claimed before.

While some transaction holds an old snapshot, nothing deleted can be cleaned away: a claim that began at the front of
its lane would pass every job that was ever claimed there since. A mark is only a hint. It lags behind, so that a
transaction that was given an earlier position but commits later is still met, and each look at all lanes puts it back
to where something was left behind (libs.jobqueue.lanes).
"""

import time
from collections.abc import Callable, Iterable

Lane = tuple[str, int]
"""(tenant, priority)."""

LAG_SECONDS = 0.1
_MOST = 1000


class Marks:
    """Positions by lane; a mark takes effect between one and two lags after its claim. For one worker's one queue."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._used: dict[Lane, int] = {}
        self._middle: dict[Lane, int] = {}
        self._new: dict[Lane, int] = {}

    def claimed(self, lane: Lane, position: int) -> None:
        """A job at *position* of *lane* is this worker's."""
        if position > self._new.get(lane, 0):
            self._new[lane] = position

    def current(self) -> dict[Lane, int]:
        """Where to begin in each lane that is not begun at its front."""
        if self._now() - self._since >= LAG_SECONDS:
            self._since = self._now()
            self._put(self._middle)
            self._middle, self._new = self._new, {}
        return self._used

    def begin(self, lowest: Iterable[tuple[Lane, int]]) -> None:
        """Begin at the first position that is ready in each lane: at a worker's first look, which has walked there."""
        self._used = {lane: position - 1 for lane, position in list(lowest)[-_MOST:]}

    def left_behind(self, lowest: Iterable[tuple[Lane, int]]) -> None:
        """*lowest* is the first position that is still ready in each lane that has one."""
        for lane, position in lowest:
            for marks in (self._used, self._middle, self._new):
                if marks.get(lane, 0) >= position:
                    marks[lane] = position - 1

    def forget(self) -> None:
        """Begin every lane at its front again."""
        self._used, self._middle, self._new = {}, {}, {}

    def _put(self, newer: dict[Lane, int]) -> None:
        for lane, position in newer.items():
            # Put last what moved last: the lanes that stood still for longest are given up first.
            self._used[lane] = max(position, self._used.pop(lane, 0))
        while len(self._used) > _MOST:
            del self._used[next(iter(self._used))]
