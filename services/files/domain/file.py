"""Files, the versions they are made of, and what decides whether one may become the next."""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from libs.errors import InvalidArgument, Violation
from services.files.domain.errors import EtagMismatch, FileExists, FileNotFound, FileTooLarge, UploadExpired

DEFAULT_CONTENT_TYPE = "application/octet-stream"
_EMPTY_SHA256 = bytes(32)
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,127}"
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ -~\t]*)?")


class State(Enum):
    """The life of a version: pending → ready → superseded, or pending → expired."""

    PENDING = "pending"
    READY = "ready"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class File:
    """One path of one user with its newest version; generation 0 is a name without bytes and shown to nobody.

    sha256: 32 bytes. deleted_at: a tombstone whose bytes are kept for the recovery window.
    """

    id: str
    organization_id: str
    user_id: str
    path: str
    generation: int
    version_id: str
    size_bytes: int
    sha256: bytes
    content_type: str
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @property
    def etag(self) -> str:
        """Changes with every write; a strong validator as RFC 9110 section 8.8.3 spells it."""
        return f'"{self.version_id}"'


@dataclass(frozen=True, slots=True)
class Version:
    """One upload, from its declaration on. Its bytes are at the key user_id/object_id/id of the object store.

    wrapped_key: of its bytes, under the user's key key_id; both empty in a row older than encryption.
    """

    id: str
    object_id: str
    organization_id: str
    user_id: str
    path: str
    state: State
    declared_bytes: int
    content_type: str
    created_at: datetime
    expires_at: datetime
    key_id: str
    wrapped_key: bytes
    file_id: str | None = None
    size_bytes: int | None = None
    sha256: bytes | None = None
    generation: int | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold for a write: if_match an etag or "*" (must exist), if_none_match "*" (must not); "" for none."""

    if_match: str = ""
    if_none_match: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a sender says before any byte: path parsed; size_bytes ≥ 0; sha256 32 bytes, or empty when not declared."""

    path: str
    size_bytes: int
    content_type: str = DEFAULT_CONTENT_TYPE
    sha256: bytes = b""
    conditions: Conditions = Conditions()


@dataclass(frozen=True, slots=True)
class Received:
    """What really came."""

    size_bytes: int
    sha256: bytes


def admit(declared: Declaration, *, limit_bytes: int) -> None:
    """Raise FileTooLarge or InvalidArgument when the upload must not even begin."""
    if declared.size_bytes > limit_bytes:
        raise FileTooLarge(
            f"The file has {declared.size_bytes} bytes; {limit_bytes} are allowed.",
            size_bytes=declared.size_bytes,
            limit_bytes=limit_bytes,
        )
    if len(declared.content_type) > 255 or not _MEDIA_TYPE.fullmatch(declared.content_type):
        why = "has to be a media type of at most 255 characters"
        raise InvalidArgument(
            f"content_type {why}.", violations=[Violation("content_type", why)], field="content_type", why=why
        )


def check(conditions: Conditions, present: File | None) -> None:
    """Raise EtagMismatch or FileExists when *conditions* do not hold for *present*. Source: RFC 9110 section 13.1."""
    if conditions.if_none_match and present is not None:
        raise FileExists("A file of that path exists.", etag=present.etag)
    if not conditions.if_match:
        return
    if present is None:
        raise EtagMismatch("There is no file of that path to replace.")
    if conditions.if_match != "*" and present.etag not in _etags(conditions.if_match):
        raise EtagMismatch("The file has changed since it was read.", etag=present.etag)


def name(version: Version, *, file_id: str, now: datetime) -> File:
    """The path of *version* as a file of generation 0, to be claimed before its first version is written to it."""
    return File(
        id=file_id,
        organization_id=version.organization_id,
        user_id=version.user_id,
        path=version.path,
        generation=0,
        version_id="",
        size_bytes=0,
        sha256=_EMPTY_SHA256,
        content_type=version.content_type,
        created_at=now,
        updated_at=now,
    )


def commit(version: Version, file: File, received: Received, *, now: datetime) -> tuple[Version, File]:
    """*version* made ready, and *file* with it as its newest. Raises UploadExpired when it is not pending any more."""
    if version.state is not State.PENDING:
        raise UploadExpired("The upload was not finished in time.")
    generation = file.generation + 1
    ready = replace(
        version,
        state=State.READY,
        file_id=file.id,
        size_bytes=received.size_bytes,
        sha256=received.sha256,
        generation=generation,
        finished_at=now,
    )
    newest = replace(
        file,
        generation=generation,
        version_id=version.id,
        size_bytes=received.size_bytes,
        sha256=received.sha256,
        content_type=version.content_type,
        updated_at=now,
    )
    return ready, newest


def delete(file: File | None, *, if_match: str, now: datetime) -> File:
    """*file* as a tombstone. Raises FileNotFound, or EtagMismatch when if_match is set and names another version."""
    if file is None:
        raise FileNotFound("There is no such file.")
    check(Conditions(if_match=if_match), file)
    return replace(file, deleted_at=now)


def pending(
    declared: Declaration,
    *,
    owner: tuple[str, str],
    ids: tuple[str, str],
    key: tuple[str, bytes],
    now: datetime,
    life: timedelta,
) -> Version:
    """The version an upload begins with.

    owner: (organization id, user id); ids: (version id, object id); key: (id of the user's key, what it wraps).
    """
    return Version(
        id=ids[0],
        object_id=ids[1],
        organization_id=owner[0],
        user_id=owner[1],
        path=declared.path,
        state=State.PENDING,
        declared_bytes=declared.size_bytes,
        content_type=declared.content_type,
        created_at=now,
        expires_at=now + life,
        key_id=key[0],
        wrapped_key=key[1],
    )


def _etags(header: str) -> frozenset[str]:
    """The strong etags of an If-Match list; weak ones never match (RFC 9110 section 8.8.3.2)."""
    return frozenset(part.strip() for part in header.split(","))
