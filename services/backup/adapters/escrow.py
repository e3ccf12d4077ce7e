"""What the host remembers of its escrow. Whoever owns the secrets writes it: this service sees digests, no secret."""

from pathlib import Path

from holdfast.escrow import record
from services.backup.domain.escrow import Standing


class Escrow:
    """records: directory of what is remembered; None: this service does not watch the escrow."""

    def __init__(self, records: Path | None) -> None:
        self._records = records

    @property
    def watched(self) -> bool:
        """Whether anything can be said of it."""
        return self._records is not None

    def standing(self) -> Standing:
        """As the two files say now; they are small."""
        if self._records is None:
            return Standing()
        found = record.standing(self._records)
        if found.exported is None:
            return Standing()
        return Standing(found.exported.exported_at, found.exported.verified_at, found.stale)

    def warnings(self) -> list[str]:
        """What an operator has to know; empty when all is well."""
        warning = self.standing().warning if self.watched else ""
        return [warning] if warning else []
