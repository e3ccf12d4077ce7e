"""How long a restore would take now, from what drills took: the restore by its bytes, the replay by its segments.

The rest (choosing, promotion, the checks up to the proof) is the median of what it was. Rates are of the newest drills
together, so one slow disk day moves them and is forgotten again. A forecast is kept with the drill that follows it, and
what that drill took tells how good forecasts are.
"""

from collections.abc import Sequence
from statistics import median

from services.backup.domain.drill import Drill

_NEWEST = 10


def rto_seconds(drills: Sequence[Drill], *, database_bytes: int, wal_segments: int) -> float | None:
    """Seconds from request to a proven copy for so much data; None without a good drill. drills: oldest first."""
    told = [drill for drill in drills if drill.good and drill.rto_seconds is not None and drill.database_bytes][
        -_NEWEST:
    ]
    if not told:
        return None
    restoring, replaying = _spent(told, "restore"), _spent(told, "replay")
    per_byte = restoring / sum(drill.database_bytes for drill in told)
    per_segment = replaying / max(1, sum(drill.wal_segments for drill in told))
    return _rest(told) + per_byte * database_bytes + per_segment * max(1, wal_segments)


def error(drills: Sequence[Drill]) -> float | None:
    """Median of |forecast − measured| / measured over the newest good drills that had a forecast; None without any."""
    misses = [
        abs(drill.predicted_seconds - drill.rto_seconds) / drill.rto_seconds
        for drill in drills
        if drill.good and drill.predicted_seconds is not None and drill.rto_seconds
    ]
    return median(misses[-_NEWEST:]) if misses else None


def _spent(drills: Sequence[Drill], phase: str) -> float:
    return sum(drill.phase(phase).elapsed_seconds for drill in drills)


def _rest(drills: Sequence[Drill]) -> float:
    measured = ("restore", "replay")
    return median(
        max(0.0, (drill.rto_seconds or 0.0) - sum(drill.phase(name).elapsed_seconds for name in measured))
        for drill in drills
    )
