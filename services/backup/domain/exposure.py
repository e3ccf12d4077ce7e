"""How much would be lost now, minute by minute."""

from dataclasses import dataclass
from datetime import datetime, timedelta

KEPT = timedelta(days=35)
"""How long the history is kept: longer than any backup."""


@dataclass(frozen=True, slots=True)
class Sample:
    """minute: whole, UTC. exposure_seconds: age of the newest restorable moment; None when nothing is restorable or it
    is not known. waiting: segments not archived yet, None without a database. broken: whether a hole makes it worse.
    """

    minute: datetime
    exposure_seconds: float | None
    waiting: int | None
    broken: bool


def minute(at: datetime) -> datetime:
    """*at* without seconds."""
    return at.replace(second=0, microsecond=0)
