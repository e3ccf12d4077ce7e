"""A hole in the archive: from the last moment before it to the end of the next full backup nothing can be restored."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self

from services.backup.domain import wal
from services.backup.domain.progress import moment, stamp
from services.backup.domain.repository import Repository, Stored
from services.backup.domain.wal import Hole


@dataclass(frozen=True, slots=True)
class Breach:
    """first, last: the missing segments, count of them. found_at: when it was noticed.

    lost_from: the newest heartbeat that can still be restored before the hole, None when none is known. lost_until: the
    end of the full backup that made later moments restorable again, None while there is none; healed_by: its label.
    """

    first: str
    last: str
    count: int
    found_at: datetime
    lost_from: datetime | None
    lost_until: datetime | None = None
    healed_by: str = ""

    @property
    def id(self) -> str:
        """Stable for one hole, however often it is found."""
        return self.first

    @property
    def open(self) -> bool:
        """Whether the newest data cannot be restored."""
        return not self.healed_by

    def healed(self, by: Stored) -> Self:
        """The breach after *by* was taken."""
        return replace(self, lost_until=by.ended_at, healed_by=by.label)

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON."""
        document: dict[str, Any] = stamp(asdict(self))
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What to_json wrote. Raises KeyError, TypeError or ValueError for anything else."""
        found = moment(document["found_at"])
        if found is None:
            raise ValueError("a breach was found at some time")
        ends = {name: moment(document[name]) for name in ("lost_from", "lost_until")}
        return cls(**{**document, "found_at": found, **ends})


def needed(held: Repository, segments: Iterable[str], dropped: Iterable[str], *, segment_bytes: int) -> list[Hole]:
    """Holes behind the oldest backup, in archive *segments*. dropped: what the engine says that it threw away."""
    if not held.backups:
        return []
    there = set(segments)
    gone = {name for name in dropped if name not in there}
    # What was thrown away is a hole also when nothing was archived after it yet.
    ends = {_next(name, segment_bytes) for name in gone} - gone
    found = wal.holes(there | ends, segment_bytes=segment_bytes)
    oldest = held.backups[0].wal_start
    return [hole for hole in found if hole.last[:8] >= oldest[:8] and _position(hole.last) >= _position(oldest)]


def healer(last: str, held: Repository) -> Stored | None:
    """The first good full backup that begins behind *last*, the end of a hole; None while there is none."""
    for one in held.fulls():
        if one.wal_start[:8] >= last[:8] and _position(one.wal_start) > _position(last):
            return one
    return None


def _position(name: str) -> str:
    return name[8:24]


def _next(name: str, segment_bytes: int) -> str:
    position = wal.number(name, segment_bytes=segment_bytes) + 1
    return wal.name(int(name[:8], 16), position, segment_bytes=segment_bytes)
