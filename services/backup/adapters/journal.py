"""Documents on disk, each replaced as a whole or not at all: they survive a kill at any instruction."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from libs.observability import log

T = TypeVar("T")

_log = log.get(__name__)
_MEND = "Mend it, call it *.json again and restart the service, or move it out of the state directory."
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def write(path: Path, text: str) -> None:
    """Replace *path* by *text*, mode 0600: either the old or the new text is there after a crash."""
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names that were added to or removed from *directory* durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unreadable(state: Path) -> list[str]:
    """What stands unread in the journals under *state*, in one sentence with what to do; [] when nothing does."""
    found = [*state.glob("*/*.unreadable")]
    refused = [path for path in state.glob("*/*.json") if not (path.is_file() and os.access(path, os.R_OK))]
    found += [path for path in refused if os.path.lexists(path)]  # a document may be removed meanwhile
    if not found:
        return []
    many = f"{len(found)} document{'s' if len(found) > 1 else ''} of this service cannot be read"
    return [f"{many}, {min(found)} first: what it tells is missing in every list. {_MEND}"]


class Journal(Generic[T]):
    """Documents of one kind in one directory, by id; ids sort by time of making."""

    def __init__(self, directory: Path, decode: Callable[[Mapping[str, Any]], T]) -> None:
        self.directory = directory
        self._decode = decode
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, id: str, document: Mapping[str, Any]) -> None:
        """Keep *document*; durable when this returns."""
        write(self.directory / f"{id}.json", json.dumps(document, indent=1) + "\n")

    def keep(self, id: str, document: Mapping[str, Any]) -> None:
        """As save, for work that has to go on when the disk is full: then the log alone tells of it."""
        try:
            self.save(id, document)
        except OSError as error:
            _log.error("journal_not_written", journal=self.directory.name, id=id, fault=error.strerror)

    def remove(self, id: str) -> None:
        """Forget the document; harmless when there is none."""
        (self.directory / f"{id}.json").unlink(missing_ok=True)
        sync_directory(self.directory)

    def load(self) -> dict[str, T]:
        """Every document that can be read, oldest first. Unreadable ones are put aside for a person, who is told."""
        found: dict[str, T] = {}
        for path in sorted(self.directory.glob("*.json")):
            try:
                found[path.stem] = self._decode(json.loads(path.read_text(encoding="utf-8")))
            except OSError as fault:
                _tell(
                    path, fault.strerror or type(fault).__name__, f"Let the service read {path.name}, and restart it."
                )
            except _DAMAGE as fault:
                _tell(_put_aside(path), f"{type(fault).__name__}: {fault}", _MEND.replace("*.json", path.name))
        return found


def _put_aside(path: Path) -> Path:
    """Where it is now."""
    try:
        return path.rename(path.with_suffix(".unreadable"))
    except OSError:
        return path


def _tell(path: Path, fault: str, what_next: str) -> None:
    _log.error("journal_unreadable", path=str(path), fault=fault, next=what_next)
