"""When something that recurs is due: from when it was last begun, and from nothing that has to be kept beside that."""

import hashlib
from datetime import datetime, timedelta


def due(now: datetime, last: datetime, every: timedelta, jitter: timedelta) -> bool:
    """Whether what was last begun at *last* is to begin again. *every* is never exceeded: jitter makes it earlier.

    How much earlier follows from *last* itself, so that a restart draws no second time. What was missed while nobody
    was there is due at once, and once. A *last* that lies in the future proves nothing: a clock was wrong.
    """
    return last > now or now >= last + every - jitter * _share(last)


def _share(last: datetime) -> float:
    """0 to 1, the same for the same moment, spread evenly over different ones."""
    drawn = hashlib.sha256(last.isoformat().encode()).digest()[:4]
    return int.from_bytes(drawn) / 2**32
