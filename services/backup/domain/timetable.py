"""When something that recurs is due: from when it was last begun, and from nothing that has to be kept beside that."""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from services.backup.domain.drill import Drill, Kind


def due(now: datetime, last: datetime, every: timedelta, jitter: timedelta) -> bool:
    """Whether what was last begun at *last* is to begin again. *every* is never exceeded: jitter makes it earlier.

    How much earlier follows from *last* itself, so that a restart draws no second time. What was missed while nobody
    was there is due at once, and once. A *last* that lies in the future proves nothing: a clock was wrong.
    """
    return last > now or now >= last + every - jitter * _share(last)


def newest(drills: Iterable[Drill], kind: Kind, *, now: datetime) -> Drill | None:
    """The drill of *kind* that was begun last; one of the future only where there is no other.

    Else a clock that once was ahead would have a drill due at each look, until time has caught up with it.
    """
    own = [drill for drill in drills if drill.kind is kind]
    past = [drill for drill in own if drill.created_at <= now]
    return max(past or own, key=lambda drill: drill.created_at, default=None)


def _share(last: datetime) -> float:
    """0 to 1, the same for the same moment, spread evenly over different ones."""
    drawn = hashlib.sha256(last.isoformat().encode()).digest()[:4]
    return int.from_bytes(drawn) / 2**32
