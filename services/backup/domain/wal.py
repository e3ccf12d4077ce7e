"""Names of WAL segments: timeline, then position, 8 and 16 hex digits; what is missing between those that are there."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

SEGMENT_BYTES = 16 << 20
"""Postgres' default; initdb can choose another."""
_NAME = re.compile(r"[0-9A-F]{24}")
_WORD = 1 << 32


@dataclass(frozen=True, slots=True)
class Hole:
    """Segments that are in no archive although later ones are. after: the last one before it; first, last: missing."""

    after: str
    first: str
    last: str
    count: int

    @property
    def timeline(self) -> int:
        """The timeline of the missing segments."""
        return int(self.first[:8], 16)


def is_segment(name: str) -> bool:
    """Whether *name* is that of a whole segment: no partial one, no history, no label file."""
    return bool(_NAME.fullmatch(name))


def number(name: str, *, segment_bytes: int = SEGMENT_BYTES) -> int:
    """The position of a segment in its timeline, counted in segments."""
    return int(name[8:16], 16) * (_WORD // segment_bytes) + int(name[16:24], 16)


def name(timeline: int, position: int, *, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The opposite of number."""
    high, low = divmod(position, _WORD // segment_bytes)
    return f"{timeline:08X}{high:08X}{low:08X}"


def following(segment: str, *, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The segment behind *segment* in its timeline."""
    return name(int(segment[:8], 16), number(segment, segment_bytes=segment_bytes) + 1, segment_bytes=segment_bytes)


def holes(names: Iterable[str], *, segment_bytes: int = SEGMENT_BYTES) -> list[Hole]:
    """What is missing between the first and the last segment of each timeline in *names*, oldest first.

    Nothing is said of what lies before the first segment of a timeline or behind its last one.
    """
    positions: dict[int, set[int]] = defaultdict(set)
    for one in names:
        if is_segment(one):
            positions[int(one[:8], 16)].add(number(one, segment_bytes=segment_bytes))
    found = []
    for timeline, held in sorted(positions.items()):
        for earlier, later in pairwise(sorted(held)):
            if later > earlier + 1:
                bounds = (earlier, earlier + 1, later - 1)
                after, first, last = (name(timeline, one, segment_bytes=segment_bytes) for one in bounds)
                found.append(Hole(after, first, last, later - earlier - 1))
    return found


def between(first: str, last: str, *, segment_bytes: int = SEGMENT_BYTES) -> list[str]:
    """Every segment from *first* to *last*, both included, of the timeline of *first*."""
    positions = range(number(first, segment_bytes=segment_bytes), number(last, segment_bytes=segment_bytes) + 1)
    return [name(int(first[:8], 16), one, segment_bytes=segment_bytes) for one in positions]
