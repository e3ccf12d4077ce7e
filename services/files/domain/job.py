"""Work that is put with the change that makes it necessary. Each is harmless when run twice or too late."""

from dataclasses import dataclass


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
