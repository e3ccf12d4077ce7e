"""Every object in a repository, as its store lists them: what is really there, whatever the engine's own lists say."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.backup.domain import wal

_LABEL = re.compile(r"(?<!\d)\d{8}-\d{6}F(?:_(\d{8}-\d{6})[DI])?")
# Rewritten with each backup, and holding only what is there now.
_LISTS = ("backup.info", "backup.info.copy", "archive.info", "archive.info.copy", "latest")


@dataclass(frozen=True, slots=True)
class Stored:
    """One object. path: within the repository. modified_at: when the store took it, aware UTC."""

    path: str
    bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects of one stanza, in order of path."""

    objects: tuple[Stored, ...]

    @property
    def bytes(self) -> int:
        """What all of them take."""
        return sum(one.bytes for one in self.objects)

    def segments(self, archive: str) -> list[str]:
        """Names of the WAL segments in the archive of this id, e.g. "15-1"."""
        inside = f"/{archive}/"
        names = (one.path.rpartition("/")[2][:24] for one in self.objects if _is_segment(one.path, inside))
        return sorted(set(names))

    def labels(self) -> set[str]:
        """Labels of backups with at least one object, complete or not."""
        found = (_label(one.path) for one in self.objects if "/backup.history/" not in one.path)
        return {label for label in found if label}

    def older_than(self, age: timedelta, *, now: datetime) -> list[Stored]:
        """What holds data of more than *age* ago; of a backup that is when it began, of WAL when it arrived."""
        return [one for one in self.objects if _holds_data(one) and now - born(one) > age]

    def oldest(self) -> datetime | None:
        """The age of the oldest data."""
        return min((born(one) for one in self.objects if _holds_data(one)), default=None)


def listing(objects: Iterable[Stored], stanza: str) -> Listing:
    """Those of *stanza*: other stanzas may share the repository."""
    within = (f"archive/{stanza}/", f"backup/{stanza}/")
    return Listing(tuple(sorted((one for one in objects if one.path.startswith(within)), key=lambda one: one.path)))


def began(label: str) -> datetime | None:
    """When the backup of this label began, None for what is no label; the engine's labels are in UTC here."""
    found = _LABEL.fullmatch(label)
    if found is None:
        return None
    text = found[1] or label[:15]
    return datetime.strptime(text, "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def born(one: Stored) -> datetime:
    """The moment whose data *one* holds."""
    return began(_label(one.path)) or one.modified_at


def _holds_data(one: Stored) -> bool:
    return one.path.rpartition("/")[2] not in _LISTS


def _label(path: str) -> str:
    if not path.startswith("backup/"):
        return ""
    found = _LABEL.search(path)
    return found[0] if found else ""


def _is_segment(path: str, inside: str) -> bool:
    name = path.rpartition("/")[2]
    # A segment's object carries the checksum of its content; partial, history and label files have other endings.
    return path.startswith("archive/") and inside in path and wal.is_segment(name[:24]) and name[24:25] == "-"
