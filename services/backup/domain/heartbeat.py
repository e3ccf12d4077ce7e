"""Numbered, signed marks in the database's history: what makes RPO measurable and a restored moment provable.

A beat's row is written in one transaction under a locked counter, so numbers have no hole and each beat's time lies
after the commit of the one before. A restored copy whose newest beat is k, with k+1 known in production, was stopped
between the two; nobody without the key can write such a row.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat. lsn: where WAL was inserted, e.g. 0/5000148. timeline: of that WAL.

    wal: name of the last segment that can hold its commit; the commit follows lsn by at most a few page images, so near
    the end of a segment this is the next one. signature: hex HMAC-SHA256 over every other field.
    """

    sequence: int
    created_at: datetime
    lsn: str
    timeline: int
    wal: str
    signature: str = ""


def _signed_part(beat: Beat) -> bytes:
    at = beat.created_at.astimezone(UTC).isoformat()
    return f"holdfast-heartbeat|{beat.sequence}|{at}|{beat.lsn}|{beat.timeline}|{beat.wal}".encode()


def sign(beat: Beat, key: bytes) -> Beat:
    """*beat* with its signature."""
    return replace(beat, signature=hmac.new(key, _signed_part(beat), hashlib.sha256).hexdigest())


def genuine(beat: Beat, key: bytes) -> bool:
    """Whether *beat* carries the signature this key makes."""
    return hmac.compare_digest(beat.signature, sign(beat, key).signature)


def position(lsn: str) -> int:
    """An lsn as text, e.g. 0/5000148, in bytes; 0 for none."""
    high, _, low = (lsn or "0/0").partition("/")
    return int(high, 16) << 32 | int(low, 16)


def archived(beat: Beat, archive_max: str) -> bool:
    """Whether the segment of *beat*'s commit lies in a repository whose newest segment is *archive_max*.

    A segment name is timeline, then position, 8 and 16 hex digits: names of one timeline compare as text, and an older
    timeline's beat counts when its position does not pass the newest one's.
    """
    if len(archive_max) < 24:
        return False
    return f"{beat.timeline:08X}" <= archive_max[:8] and beat.wal[8:] <= archive_max[8:24]


def first_hole(beats: Sequence[Beat]) -> int:
    """The first missing number in *beats*, sorted by number; 0 when there is none."""
    for earlier, later in pairwise(beats):
        if later.sequence != earlier.sequence + 1:
            return earlier.sequence + 1
    return 0
