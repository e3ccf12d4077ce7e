"""The newest heartbeats outside the database: what is known when the database is gone, or not what it was."""

import json
import os
from pathlib import Path

from services.backup.adapters.journal import lines, sync_directory
from services.backup.domain.heartbeat import Beat
from services.backup.domain.progress import moment, stamp

_FILE_BYTES = 1 << 20


class Ledger:
    """Beats as lines of JSON in two files: the current one, and the one before it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / "heartbeats.jsonl"
        self._before = directory / "heartbeats.1.jsonl"

    def append(self, beat: Beat) -> None:
        """Keep *beat*; durable when this returns."""
        if self._path.exists() and self._path.stat().st_size > _FILE_BYTES:
            self._path.replace(self._before)
        fields = {"sequence": beat.sequence, "created_at": stamp(beat.created_at), "lsn": beat.lsn}
        line = json.dumps(fields | {"timeline": beat.timeline, "wal": beat.wal, "signature": beat.signature})
        with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self._path.parent)

    def beats(self) -> list[Beat]:
        """Every beat still kept, ascending; a line cut short by a crash is left out.

        A number that was not above the one before it was written to a restored database: what it had replaced is gone.
        """
        found: dict[int, Beat] = {}
        for path in (self._before, self._path):
            for line in lines(path):
                beat = _read(line)
                if beat is None:
                    continue
                while found and next(reversed(found)) >= beat.sequence:
                    found.popitem()
                found[beat.sequence] = beat
        return list(found.values())


def _read(line: str) -> Beat | None:
    try:
        fields = json.loads(line)
        at, numbers = moment(fields["created_at"]), (fields["sequence"], fields["timeline"])
        if at is None or not all(type(number) is int for number in numbers):
            return None
        return Beat(fields["sequence"], at, fields["lsn"], fields["timeline"], fields["wal"], fields["signature"])
    except (ValueError, KeyError, TypeError):
        return None
