"""The RPO of objects: what a restore would lack of the files' bytes that its rows name.

Objects are in no backup; a restored row names the object of the live store. So nothing is lost while each row's object
is there and bytes are kept for longer than the restored moment is old. Where a row has lost its object, objects are
held to be whole only up to the moment when the oldest such row was finished. The newest drill that came to the question
answers it, from its checks alone; what it could not look at is unknown, and so is what none has looked at lately.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.backup.domain.drill import AT_LEAST_EVERY, Check, Drill

ROWS, LAG = "objects_of_rows", "deletes_lag"
_NEVER = "no drill has compared files with their objects yet"
_LONG_AGO = "no drill of the last 8 days has compared files with their objects"


@dataclass(frozen=True, slots=True)
class ObjectRpo:
    """seconds: at most so much is lost; None when it is not known, and unknown says why.

    sampled: how many rows' objects were asked for. drill, proven_at: its id and end, "" and None without one.
    """

    seconds: float | None
    unknown: str = ""
    sampled: int = 0
    drill: str = ""
    proven_at: datetime | None = None


def newest(drills: Sequence[Drill], *, now: datetime) -> ObjectRpo:
    """The figure of now. drills: newest first."""
    told = next((found for found in map(of, drills) if found is not None), None)
    if told is None or told.proven_at is None:
        return ObjectRpo(None, _NEVER)
    return told if now - told.proven_at < AT_LEAST_EVERY else ObjectRpo(None, _LONG_AGO)


def of(drill: Drill) -> ObjectRpo | None:
    """What *drill* says; None when it has not ended, or did not come to the question."""
    checks = {check.check: check for check in drill.checks}
    rows, lag = checks.get(ROWS), checks.get(LAG)
    if rows is None or drill.ended_at is None:
        return None
    if rows.failed and rows.since is not None:
        # Never 0, whatever the clocks of the database and of this host say.
        seconds: float | None = max(1.0, ((drill.stop_at or drill.ended_at) - rows.since).total_seconds())
        unknown = ""
    else:
        unknown = _unknown(rows, lag)
        seconds = None if unknown else 0.0
    return ObjectRpo(seconds, unknown, rows.count, drill.id, drill.ended_at)


def _unknown(rows: Check, lag: Check | None) -> str:
    """Why nothing follows from the checks; "" when each row that was asked for has its object."""
    if not rows.ok:
        return rows.detail or "the objects could not be asked for"
    if not rows.count:
        return "there is no file whose object could be asked for"
    return lag.detail if lag is not None and lag.failed else ""
