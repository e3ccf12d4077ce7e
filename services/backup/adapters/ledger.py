"""The newest heartbeats outside the database: what is known when the database is gone, or not what it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.backup.adapters.lines import Lines
from services.backup.domain.heartbeat import Beat, position
from services.backup.domain.progress import stamp
from services.backup.domain.reading import moment, text, whole

_FILE_BYTES = 1 << 20


class Ledger:
    """Beats as lines of JSON in two files: the current one, and the one before it."""

    def __init__(self, directory: Path) -> None:
        self._lines = Lines(directory, "heartbeats", _beat, max_bytes=_FILE_BYTES, synced=True)

    def append(self, beat: Beat) -> None:
        """Keep *beat*; durable when this returns."""
        fields = {"sequence": beat.sequence, "created_at": stamp(beat.created_at), "lsn": beat.lsn}
        self._lines.append(fields | {"timeline": beat.timeline, "wal": beat.wal, "signature": beat.signature})

    def beats(self) -> list[Beat]:
        """Every beat still kept, ascending; a line that cannot be read is left out.

        A number that was not above the one before it was written to a restored database: what it had replaced is gone.
        """
        found: dict[int, Beat] = {}
        for beat in self._lines.read():
            while found and next(reversed(found)) >= beat.sequence:
                found.popitem()
            found[beat.sequence] = beat
        return list(found.values())


def _beat(fields: Mapping[str, Any]) -> Beat:
    at, lsn = moment(fields["created_at"]), text(fields["lsn"])
    position(lsn)
    timeline, wal = whole(fields["timeline"]), text(fields["wal"])
    return Beat(whole(fields["sequence"]), at, lsn, timeline, wal, text(fields["signature"]))
