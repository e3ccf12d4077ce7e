"""`verify --output=text --verbose`, read as a judgement: the command itself exits with 0 whatever it found.

Tried with 2.45. A repository with a backup whose manifest is gone is still "status: ok" there, and a backup can be
left out altogether: so each backup that the repository lists has to be named here, and valid.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from services.backup.domain.verification import Verification

_STANZA = re.compile(r"^stanza: (?P<stanza>\S+)\s*$")
_STATUS = re.compile(r"^status: (?P<status>\S+)")
_ARCHIVE = re.compile(r"archiveId: (?P<id>[^,]+), total WAL checked: (?P<checked>\d+), total valid WAL: (?P<valid>\d+)")
_BACKUP = re.compile(
    r"backup: (?P<label>\S+), status: (?P<status>[^,]+), total files checked: (?P<checked>\d+),"
    r" total valid files: (?P<valid>\d+)"
)
_COUNT = re.compile(r"(missing|checksum invalid|size invalid|other): (\d+)")
_NOTHING = ("no archives or backups exist in the repo", "archiveId: none found", "backup: none found")
_UNFINISHED = ("in-progress", "manifest missing")


@dataclass(slots=True)
class _Reading:
    """What has been seen so far; subject: what the next line of counts belongs to."""

    status: str = ""
    named: bool = False
    subject: str = ""
    segments: int = 0
    files: int = 0
    backups: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def parse(text: str, stanza: str, listed: Collection[str]) -> Verification:
    """The judgement in *text*. listed: labels of the backups that `info` lists."""
    seen = _Reading()
    for line in text.splitlines():
        _read(line, stanza, seen)
    faults = [*_status(seen), *seen.faults]
    for label in sorted(listed):
        state = seen.backups.get(label)
        if state is None:
            faults.append(f"backup {label} was not looked at")
        elif state != "valid":
            faults.append(f"backup {label} is {state}")
    strange = {label: state for label, state in seen.backups.items() if label not in listed and state != "valid"}
    leftovers = tuple(sorted(label for label, state in strange.items() if state in _UNFINISHED))
    faults += [f"backup {label} is {state}" for label, state in sorted(strange.items()) if label not in leftovers]
    return Verification(seen.segments, len(seen.backups), seen.files, tuple(faults), leftovers)


def _status(seen: _Reading) -> list[str]:
    if not seen.named:
        return ["verify said nothing about the stanza"]
    if seen.status != "ok":
        return [f"verify says that the status is {seen.status or 'missing'}"]
    return []


def _read(line: str, stanza: str, seen: _Reading) -> None:
    if found := _STANZA.match(line):
        seen.named = found["stanza"] == stanza
    elif found := _STATUS.match(line):
        seen.status = found["status"]
    elif found := _ARCHIVE.search(line):
        seen.subject = f"archive {found['id']}"
        seen.segments += int(found["checked"])
        _whole(seen, int(found["checked"]), int(found["valid"]))
    elif found := _BACKUP.search(line):
        seen.subject = f"backup {found['label']}"
        seen.backups[found["label"]] = found["status"]
        seen.files += int(found["checked"])
        _whole(seen, int(found["checked"]), int(found["valid"]))
    elif counts := _COUNT.findall(line):
        seen.faults += [f"{seen.subject}: {count} {what}" for what, count in counts if int(count)]
    elif line.strip() and not any(one in line for one in _NOTHING):
        # Whatever is not understood is no proof that all is well.
        seen.faults.append(line.strip())


def _whole(seen: _Reading, checked: int, valid: int) -> None:
    if checked != valid:
        seen.faults.append(f"{seen.subject}: {valid} of {checked} files are valid")
