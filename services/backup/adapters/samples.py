"""Exposure samples outside the database: what is measured while it is away is not forgotten."""

import json
import os
from datetime import datetime
from pathlib import Path

from services.backup.adapters.journal import lines
from services.backup.domain.exposure import Sample
from services.backup.domain.progress import moment

_FILE_BYTES = 4 << 20


class Samples:
    """Lines of JSON in two files of 4 MiB, the current one and the one before it: together more than 35 days."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / "exposures.jsonl"
        self._before = directory / "exposures.1.jsonl"

    def append(self, sample: Sample) -> None:
        """Keep *sample*. One may be lost in a crash: it is one minute's."""
        if self._path.exists() and self._path.stat().st_size > _FILE_BYTES:
            self._path.replace(self._before)
        line = json.dumps(
            {
                "minute": sample.minute.isoformat(),
                "exposure_seconds": sample.exposure_seconds,
                "waiting": sample.waiting,
                "broken": sample.broken,
            }
        )
        with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def since(self, begin: datetime) -> list[Sample]:
        """Every sample of *begin* or later, ascending; a line cut short by a crash is left out."""
        found: dict[datetime, Sample] = {}
        for path in (self._before, self._path):
            for line in lines(path):
                sample = _read(line)
                if sample is not None and sample.minute >= begin:
                    found[sample.minute] = sample
        return [found[minute] for minute in sorted(found)]


def _read(line: str) -> Sample | None:
    try:
        fields = json.loads(line)
        minute = moment(fields["minute"])
        if minute is None:
            return None
        return Sample(minute, fields["exposure_seconds"], fields["waiting"], bool(fields["broken"]))
    except (ValueError, KeyError, TypeError):
        return None
