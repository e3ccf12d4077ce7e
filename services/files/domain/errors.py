"""Why a file operation is refused."""

from libs.errors import AppError, Kind


class PathInvalid(AppError):
    """The path is empty, too long, or has a segment that is not allowed."""

    kind, reason = Kind.INVALID, "PATH_INVALID"


class FileNotFound(AppError):
    """The caller has no such file."""

    kind, reason = Kind.NOT_FOUND, "FILE_NOT_FOUND"


class FileTooLarge(AppError):
    """The declared size is over the limit; nothing of the body has been read."""

    kind, reason = Kind.OUT_OF_RANGE, "FILE_TOO_LARGE"


class LengthMismatch(AppError):
    """More or fewer bytes came than were declared."""

    kind, reason = Kind.INVALID, "LENGTH_MISMATCH"


class ChecksumMismatch(AppError):
    """The bytes that came do not have the declared SHA-256."""

    kind, reason = Kind.INVALID, "CHECKSUM_MISMATCH"


class RangeNotSatisfiable(AppError):
    """The first byte asked for lies behind the file's end; fact `size_bytes` is the size."""

    kind, reason = Kind.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE"


class EtagMismatch(AppError):
    """if_match names another version than the stored one, or there is none."""

    kind, reason = Kind.CONFLICT, "ETAG_MISMATCH"


class FileExists(AppError):
    """if_none_match forbids to replace, and a file of that path exists."""

    kind, reason = Kind.EXISTS, "FILE_EXISTS"


class UploadExpired(AppError):
    """The upload was not finished in time."""

    kind, reason = Kind.CONFLICT, "UPLOAD_EXPIRED"


class ForeignObject(AppError):
    """An object key that is not one of the caller's own was asked of the object store."""

    kind, reason = Kind.FORBIDDEN, "FOREIGN_OBJECT"


class StoreUnavailable(AppError):
    """The object store does not answer, or refuses our own key pair."""

    kind, reason = Kind.UNAVAILABLE, "UNAVAILABLE"


class BytesMissing(AppError):
    """A row names an object that the store does not have: a fault of ours, never the caller's."""

    kind, reason = Kind.INTERNAL, "INTERNAL"


class BytesDamaged(AppError):
    """What the store has is not what was sealed: a fault of ours or an attack, never the caller's."""

    kind, reason = Kind.INTERNAL, "INTERNAL"


class KeyMissing(AppError):
    """A row names a key of the user that is not there or cannot be opened: a fault of ours, never the caller's."""

    kind, reason = Kind.INTERNAL, "INTERNAL"


class KeysErased(AppError):
    """The user's keys have been erased, and with them what every file of the user says."""

    kind, reason = Kind.NOT_FOUND, "FILES_ERASED"
