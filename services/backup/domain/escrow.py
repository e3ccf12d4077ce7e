"""How the newest escrow of root keys and cipher pass stands to what is installed, and the words for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.backup.domain.drill import Drill

CHECK = "escrow"
"""Name of a deep drill's check that it restored with an opened escrow alone."""


@dataclass(frozen=True, slots=True)
class Standing:
    """exported_at: None when there never was an escrow. verified_at: when it was last opened well.

    stale: names of what is installed and is not in it as it is now.
    """

    exported_at: datetime | None = None
    verified_at: datetime | None = None
    stale: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether a restore with it would get everything that is installed."""
        return self.exported_at is not None and not self.stale

    @property
    def warning(self) -> str:
        """What an operator has to do, "" for nothing."""
        how = "holdfast escrow export --recipient CERT… --output FILE, and carry the file away"
        if self.exported_at is None:
            return (
                "There is no escrow of the root keys and the backups' pass: whoever loses this host loses every backup"
                f" with it. Make one: {how}."
            )
        if not self.stale:
            return ""
        return (
            f"The escrow of {self.exported_at:%Y-%m-%d} does not hold what is installed now ({', '.join(self.stale)}):"
            f" a restore with it would fail. Make another: {how}."
        )


def proven_at(drills: Iterable[Drill]) -> datetime | None:
    """When the newest good drill ended that restored with an escrow alone; None without one."""
    proven = (
        one.ended_at for one in drills if one.good and any(made.check == CHECK and made.ok for made in one.checks)
    )
    return max((at for at in proven if at is not None), default=None)
