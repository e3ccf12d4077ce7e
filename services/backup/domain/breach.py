"""A hole in the archive: from the last moment before it to the end of the next full backup nothing can be restored."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Annotated, Self

from services.backup.domain import wal
from services.backup.domain.plan import STOP_PRECISION
from services.backup.domain.reading import Document, text
from services.backup.domain.repository import Repository, Stored
from services.backup.domain.wal import Hole


def _segment(value: object) -> str:
    if not wal.is_segment(text(value)):
        raise ValueError("not a WAL segment")
    return text(value)


_Segment = Annotated[str, _segment]


@dataclass(frozen=True, slots=True)
class Breach(Document):
    """first, last: the missing segments, count of them. found_at: when it was noticed.

    lost_from: the newest heartbeat that can still be restored before the hole, None when none is known. lost_until: the
    end of the full backup that made later moments restorable again, None while there is none; healed_by: its label.
    database_id: which of the stanza's databases wrote the segments; 0 when unknown.
    """

    first: _Segment
    last: _Segment
    count: int
    found_at: datetime
    lost_from: datetime | None
    lost_until: datetime | None = None
    healed_by: str = ""
    database_id: int = 0

    @property
    def id(self) -> str:
        """Stable for one hole, however often it is found."""
        return self.first

    @property
    def open(self) -> bool:
        """Whether the newest data cannot be restored."""
        return not self.healed_by

    @property
    def restorable_again(self) -> datetime | None:
        """The first moment behind it that can be restored; None while there is none."""
        return self.lost_until + STOP_PRECISION if self.lost_until else None

    def covers(self, at: datetime) -> bool:
        """Whether *at* lies behind its beginning and before all that can be restored again."""
        again = self.restorable_again
        return (self.lost_from is None or at > self.lost_from) and (again is None or at < again)

    def healed(self, by: Stored) -> Self:
        """The breach after *by* was taken."""
        return replace(self, lost_until=by.ended_at, healed_by=by.label)


def needed(held: Repository, segments: Iterable[str], dropped: Iterable[str], *, segment_bytes: int) -> list[Hole]:
    """Holes behind the oldest backup, in archive *segments*. dropped: what the engine says that it threw away."""
    if not held.backups:
        return []
    there = set(segments)
    # Nothing lies before the archive's first segment or behind its last one: that one of these is lost shows no gap.
    gone = {name for name in dropped if name not in there} | set(wanting(held, there, segment_bytes=segment_bytes))
    beside = {_beside(name, step, segment_bytes) for name in gone for step in (-1, 1)} - gone
    found = wal.holes(there | beside, segment_bytes=segment_bytes)
    oldest = held.backups[0].wal_start
    return [hole for hole in found if hole.last[:8] >= oldest[:8] and _position(hole.last) >= _position(oldest)]


def wanting(held: Repository, segments: Iterable[str], *, segment_bytes: int) -> dict[str, str]:
    """Segments that a backup of the running database needs to be consistent and *segments* lack → its label."""
    there = set(segments)
    own = [one for one in held.backups if one.database_id == held.database_id and one.wal_start and one.wal_stop]
    return {
        name: one.label
        for one in own
        for name in wal.between(one.wal_start, one.wal_stop, segment_bytes=segment_bytes)
        if name not in there
    }


def fresh(holes: Iterable[Hole], known: Iterable[Breach], *, segment_bytes: int) -> list[Hole]:
    """What of *holes* no breach of *known* covers: a hole that has grown is declared for what is new in it."""
    told = {name for one in known for name in wal.between(one.first, one.last, segment_bytes=segment_bytes)}
    found = []
    for hole in holes:
        lost = wal.between(hole.first, hole.last, segment_bytes=segment_bytes)
        for is_told, names in groupby(lost, told.__contains__):
            if not is_told:
                part = list(names)
                found.append(Hole(hole.after, part[0], part[-1], len(part)))
    return found


def latest(breach: Breach, held: Repository) -> datetime | None:
    """The last moment that can be restored before *breach*: of a heartbeat, or the end of a backup; None for none.

    A heartbeat is of use only behind a backup that needs nothing of what is lost, of the database that lost it.
    """
    database = breach.database_id or held.database_id
    own = [one for one in held.backups if one.database_id == database and one.wal_stop]
    whole = [one for one in own if _position(one.wal_stop) < _position(breach.first)]
    ends = [one.ended_at + STOP_PRECISION for one in whole]
    if ends and breach.lost_from is not None:
        ends.append(breach.lost_from)
    return max(ends, default=None)


def inside(known: Iterable[Breach], held: Repository, earliest: datetime, latest_at: datetime) -> list[Breach]:
    """Ended breaches of *known* that cut a piece out of the restorable time from *earliest* to *latest_at*.

    Each with lost_from and lost_until as the ends of that piece, moments that can be restored; by their beginning.
    """
    found = []
    for one in known:
        begin, end = latest(one, held), one.restorable_again
        if begin and end and begin < end and begin < latest_at and end > earliest:
            found.append(replace(one, lost_from=begin))
    return sorted(found, key=lambda one: one.lost_from or earliest)


def blocking(known: Iterable[Breach], backup: Stored, target: datetime) -> Breach | None:
    """The breach for which *backup* cannot be restored to *target*; None when none of *known* lies between them."""
    for one in known:
        later = one.lost_until is not None and backup.ended_at >= one.lost_until
        if not later and (one.lost_from is None or target > one.lost_from):
            return one
    return None


def healer(breach: Breach, held: Repository) -> Stored | None:
    """The first good full backup that begins behind *breach*, or is of another database; None while there is none."""
    last = breach.last
    for one in held.fulls():
        if breach.database_id not in (0, one.database_id):
            return one
        if one.wal_start[:8] >= last[:8] and _position(one.wal_start) > _position(last):
            return one
    return None


def _position(name: str) -> str:
    return name[8:24]


def _beside(name: str, step: int, segment_bytes: int) -> str:
    """The segment *step* after *name*; the log begins with number 0."""
    position = max(0, wal.number(name, segment_bytes=segment_bytes) + step)
    return wal.name(int(name[:8], 16), position, segment_bytes=segment_bytes)
