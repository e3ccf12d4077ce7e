"""What has to go: no backup grows older than thirty days, and the last good one never goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.backup.domain.repository import Repository, Stored

CEILING = timedelta(days=30)
"""The promise: nothing older than this exists."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """labels: of what has to be removed, oldest first; all that builds on one of them goes with it.

    kept: the last good full backup, when it is too old and stays all the same; else "".
    """

    labels: tuple[str, ...]
    kept: str


def sweep(held: Repository, *, now: datetime, period: timedelta) -> Sweep:
    """What would pass the ceiling before the next look, a *period* from now.

    The engine's own retention deletes a full backup only when a later one is old enough too; this is the hard end.
    """
    old = [one for one in held.backups if one.full and one.started_at + CEILING <= now + period]
    last = _last_good(held)
    labels = tuple(one.label for one in old if one.label != last)
    # Kept is told only of what really is too old.
    kept = [one for one in old if one.label == last and one.started_at + CEILING <= now]
    return Sweep(labels, kept[0].label if kept else "")


def _last_good(held: Repository) -> str:
    """The full backup that must stay whatever its age: the newest good one, or the newest of all when none is good."""
    every: Sequence[Stored] = held.fulls() or [one for one in held.backups if one.full]
    return every[-1].label if every else ""
