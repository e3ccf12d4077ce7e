"""The contents as one tar archive with a manifest and digests, and back; tar, since every machine can unpack it."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

FORMAT, VERSION = "holdfast-escrow", 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
_NAME = re.compile(r"(secrets/[a-z0-9_]+|repository)/[a-z0-9_]+(\.[a-z]+)?")
_MOST_BYTES = 1 << 20


class NotEscrow(Exception):
    """What was read is no whole escrow; the message says how, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who can open it. fingerprint: SHA-256 of the certificate as DER, in lower-case hex; subject: its name."""

    fingerprint: str
    subject: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """made_at: RFC 3339, UTC, whole seconds. stack, stanza: host and server it is of. files: name → SHA-256 in hex."""

    made_at: str
    stack: str
    stanza: str
    recipients: tuple[Recipient, ...]
    files: Mapping[str, str]

    @property
    def contents(self) -> str:
        """One SHA-256 that stands for all files."""
        return hashlib.sha256(_sums(self.files).encode()).hexdigest()

    def to_json(self) -> bytes:
        """The manifest's own bytes."""
        document = {"format": FORMAT, "version": VERSION, "contents": self.contents, **asdict(self)}
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """What to_json wrote. Raises NotEscrow."""
        try:
            found: dict[str, Any] = json.loads(text)
            if found["format"] == FORMAT and found["version"] != VERSION:
                raise NotEscrow(
                    f"it is of version {found['version']}, and this program knows {VERSION}: open it by hand"
                )
            people = tuple(Recipient(**one) for one in found["recipients"])
            made = cls(found["made_at"], found["stack"], found["stanza"], people, dict(found["files"]))
            datetime.fromisoformat(made.made_at)
        except (ValueError, KeyError, TypeError):
            raise NotEscrow("its manifest cannot be read") from None
        if made.to_json() != text:
            raise NotEscrow("its manifest is not as it was made")
        return made


def pack(
    files: Mapping[str, bytes], *, made_at: datetime, stack: str, stanza: str, recipients: Sequence[Recipient]
) -> tuple[Manifest, bytes]:
    """The manifest of *files*, and the archive of both."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = Manifest(made_at.strftime("%Y-%m-%dT%H:%M:%SZ"), stack, stanza, tuple(recipients), digests)
    listed = {MANIFEST: manifest.to_json(), **files}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in ((SUMS, sums(manifest)), *sorted(listed.items())):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o600, int(made_at.timestamp())
            archive.addfile(member, io.BytesIO(content))
    return manifest, buffer.getvalue()


def unpack(archive: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """What pack wrote. Raises NotEscrow for anything else; names are safe to be written below a directory."""
    found = _members(archive)
    if MANIFEST not in found or SUMS not in found:
        raise NotEscrow("it holds no manifest")
    manifest, listed = Manifest.from_json(found.pop(MANIFEST)), found.pop(SUMS)
    if listed != sums(manifest) or found.keys() != manifest.files.keys():
        raise NotEscrow("it does not hold what its manifest names")
    for name, content in found.items():
        if hashlib.sha256(content).hexdigest() != manifest.files[name]:
            raise NotEscrow(f"{name} is not what was escrowed")
        if not _NAME.fullmatch(name):
            raise NotEscrow(f"{name!r} is no name of an escrowed file")
    return manifest, found


def sums(manifest: Manifest) -> bytes:
    """SHA256SUMS, for sha256sum -c."""
    return _sums({MANIFEST: hashlib.sha256(manifest.to_json()).hexdigest(), **manifest.files}).encode()


def _sums(digests: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _members(archive: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
            for member in opened:
                content = opened.extractfile(member) if member.isreg() and member.size <= _MOST_BYTES else None
                if content is None or member.name in found:
                    raise NotEscrow("it holds something that no escrow holds")
                found[member.name] = content.read()
    except (tarfile.TarError, OSError):
        raise NotEscrow("what is inside is damaged") from None
    return found
