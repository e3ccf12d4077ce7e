"""Exposure samples outside the database: what is measured while it is away is not forgotten."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from services.backup.adapters.lines import Lines
from services.backup.domain.exposure import Sample
from services.backup.domain.reading import moment, truth, whole

_FILE_BYTES = 4 << 20


class Samples:
    """Lines of JSON in two files of 4 MiB, the current one and the one before it: together more than 35 days."""

    def __init__(self, directory: Path) -> None:
        self._lines = Lines(directory, "exposures", _sample, max_bytes=_FILE_BYTES, synced=False)

    def append(self, sample: Sample) -> None:
        """Keep *sample*. One may be lost in a crash: it is one minute's."""
        fields = {"minute": sample.minute.isoformat(), "exposure_seconds": sample.exposure_seconds}
        self._lines.append(fields | {"waiting": sample.waiting, "broken": sample.broken})

    def since(self, begin: datetime) -> list[Sample]:
        """Every sample of *begin* or later, ascending; a line that cannot be read is left out."""
        found = {sample.minute: sample for sample in self._lines.read() if sample.minute >= begin}
        return [found[minute] for minute in sorted(found)]


def _sample(fields: Mapping[str, Any]) -> Sample:
    at, seconds, waiting = moment(fields["minute"]), fields["exposure_seconds"], fields["waiting"]
    if seconds is not None and (isinstance(seconds, bool) or not seconds >= 0):
        raise ValueError("not a duration")
    return Sample(at, seconds, None if waiting is None else whole(waiting), truth(fields["broken"]))
