"""What an installation remembers of its escrow: two small files without a secret, beside the backup service's state.

`exported.json` is written by `holdfast escrow export` and `verify`, `installed.json` by them, by `make up` and by
`make doctor`: by whoever may read the secrets. The backup service may not, and needs not: the escrow is stale when the
two files name different digests.

The digests are HMAC-SHA-256 under a key of their own, which only the secrets' owner can read. A plain SHA-256 would do
for what is drawn at random here; but an operator may have brought a cipher pass of his own, and a digest that anybody
can compute is an invitation to guess it.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from holdfast.escrow.contents import Installation, gather

DIGEST_KEY = "stack/digest_key"
EXPORTED, INSTALLED = "exported.json", "installed.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """The newest escrow. digests: name → keyed digest. sha256: of its file. verified_at: last opened well, or None."""

    exported_at: datetime
    sha256: str
    recipients: tuple[str, ...]
    digests: Mapping[str, str]
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """exported: None when there never was one. stale: names that differ between it and what is installed."""

    exported: Exported | None
    stale: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether a restore with the newest escrow would get everything that is installed."""
        return self.exported is not None and not self.stale


def digests(installation: Installation, files: Mapping[str, bytes]) -> dict[str, str]:
    """Name → keyed digest. The key is made when there is none; whoever calls may read secrets. Raises OSError."""
    path = installation.secrets / DIGEST_KEY
    if not path.exists():
        write(path, secrets.token_urlsafe(32).encode() + b"\n", mode=0o600)
    key = path.read_bytes().strip()
    return {
        name: hmac.new(key, f"{name}\0".encode() + content, hashlib.sha256).hexdigest()
        for name, content in sorted(files.items())
    }


def note_installed(installation: Installation, *, now: datetime) -> Mapping[str, str]:
    """Remember what is installed now; its digests. Raises Missing and OSError."""
    found = digests(installation, gather(installation))
    path = installation.records / INSTALLED
    if _load(path).get("digests") != found:
        _save(path, {"version": 1, "noted_at": now.isoformat(), "digests": found})
    return found


def note_exported(installation: Installation, files: Mapping[str, bytes], made: Exported) -> None:
    """Remember *made*, the escrow of *files*."""
    _save_exported(installation, replace(made, digests=digests(installation, files)))


def note_verified(installation: Installation, sha256: str, *, now: datetime) -> bool:
    """Remember that the newest escrow was opened well; False when that file is not the newest."""
    known = standing(installation.records).exported
    if known is None or known.sha256 != sha256:
        return False
    _save_exported(installation, replace(known, verified_at=now))
    return True


def standing(records: Path) -> Standing:
    """What the two files in *records* say; one that cannot be read is as if it were not there."""
    exported, installed = _exported(_load(records / EXPORTED)), _load(records / INSTALLED)
    here = installed.get("digests")
    if exported is None:
        return Standing(None, ())
    if not isinstance(here, dict):
        return Standing(exported, tuple(sorted(exported.digests)))  # nobody knows: that is not good
    names = sorted(exported.digests.keys() | here.keys())
    return Standing(exported, tuple(name for name in names if exported.digests.get(name) != here.get(name)))


def write(path: Path, content: bytes, *, mode: int) -> None:
    """Replace *path* whole and durably; as root it gets the owner of the directory that was there before."""
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    for folder in reversed(made):
        folder.mkdir(mode=0o700)  # with parents=True only the last one would be private
    owner = (made[-1].parent if made else path.parent).stat()
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            for folder in made:
                os.chown(folder, owner.st_uid, owner.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _save_exported(installation: Installation, made: Exported) -> None:
    document = {"version": 1, **asdict(made), "exported_at": made.exported_at.isoformat()}
    document["verified_at"] = made.verified_at.isoformat() if made.verified_at else None
    _save(installation.records / EXPORTED, document)


def _save(path: Path, document: Mapping[str, Any]) -> None:
    write(path, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode(), mode=0o644)


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _exported(found: Mapping[str, Any]) -> Exported | None:
    try:
        verified = found.get("verified_at")
        return Exported(
            datetime.fromisoformat(found["exported_at"]),
            str(found["sha256"]),
            tuple(found["recipients"]),
            dict(found["digests"]),
            datetime.fromisoformat(verified) if verified else None,
        )
    except (KeyError, TypeError, ValueError):
        return None
