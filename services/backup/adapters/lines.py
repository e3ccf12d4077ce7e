"""Lines of JSON in two files, the current one and the one before it: a damaged line costs itself only."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from libs.observability import log
from services.backup.adapters.journal import sync_directory

T = TypeVar("T")

_log = log.get(__name__)
_MOST_TOLD = 10


class Lines(Generic[T]):
    """decode: what one document says; raises KeyError, TypeError or ValueError for what it does not understand.

    max_bytes: when a file is full, and becomes the one before. synced: whether a line is durable once it is written.
    """

    def __init__(
        self, directory: Path, name: str, decode: Callable[[Mapping[str, Any]], T], *, max_bytes: int, synced: bool
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / f"{name}.jsonl"
        self._before = directory / f"{name}.1.jsonl"
        self._decode = decode
        self._max_bytes = max_bytes
        self._synced = synced
        self._told: dict[Path, list[int]] = {}

    def append(self, document: Mapping[str, Any]) -> None:
        """Keep *document*, on a line of its own also behind one that was cut short. Raises OSError, with the path."""
        try:
            self._append(document)
        except OSError as fault:
            fault.filename = fault.filename or str(self._path)  # a full disk names none
            raise

    def _append(self, document: Mapping[str, Any]) -> None:
        if self._path.exists() and self._path.stat().st_size > self._max_bytes:
            self._path.replace(self._before)
        with open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            left = memoryview(b"\n" * cut + json.dumps(document).encode() + b"\n")
            while left:
                left = left[os.write(file.fileno(), left) :]
            if self._synced:
                os.fsync(file.fileno())
        if self._synced:
            sync_directory(self._path.parent)

    def read(self) -> Iterator[T]:
        """What every line that can be read says, oldest first; the others are told in the log, once."""
        for path in (self._before, self._path):
            bad: list[int] = []
            for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
                try:
                    if line.strip():
                        yield self._decode(json.loads(line.decode()))
                except (ValueError, KeyError, TypeError, RecursionError):
                    bad.append(number)
            self._tell(path, bad)

    def _tell(self, path: Path, bad: list[int]) -> None:
        if bad and bad != self._told.get(path):
            _log.warning("lines_unreadable", path=str(path), lines=bad[:_MOST_TOLD], count=len(bad))
        self._told[path] = bad
