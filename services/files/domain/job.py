"""Work that is put with the change that makes it necessary. Each is harmless when run twice or too late."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ExpireUpload:
    """Put by the transaction that opens an upload, for the moment it expires; does nothing when it was finished."""

    version_id: str


@dataclass(frozen=True, slots=True)
class RemoveVersion:
    """Put by the transaction that replaces a version, for the end of its recovery window: bytes and row go."""

    version_id: str


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Put by the transaction that deletes a file, for the end of its recovery window: bytes and rows go."""

    file_id: str


@dataclass(frozen=True, slots=True)
class RotateKey:
    """Put by an upload that met a key past its life: another key seals from then on, and every row is wrapped by it."""

    timeout_seconds: ClassVar[float] = 3600.0
    key_id: str


@dataclass(frozen=True, slots=True)
class RetireKey:
    """Put when every row is wrapped by another key, for the time when no backup has a row that still names this one."""

    key_id: str


@dataclass(frozen=True, slots=True)
class EraseFiles:
    """Ends what a user's files say, here and in every backup, by erasing the keys; for who ends an account."""


@dataclass(frozen=True, slots=True)
class RenewKeys:
    """Comes daily for the service itself: keys that a former root wraps are wrapped by the current one."""

    timeout_seconds: ClassVar[float] = 3600.0
