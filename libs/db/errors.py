"""What a database failure means to a caller; everything else stays the exception it was."""

import sqlalchemy.exc

from libs.errors import Unavailable

_SERIALIZATION, _DEADLOCK = "40001", "40P01"
_SENTENCES = {
    "25006": "The database takes no writes: it is a standby, or was made read-only.",
    "57014": "The database gave up a statement that took too long.",
    "55P03": "Another transaction held a row for too long.",
    "25P03": "The transaction waited idle for too long and was ended.",
}


class TryAgain(Unavailable):
    """The transaction lost against another one (SQLSTATE 40001 or 40P01); running it again from the start is right."""


class UnsafeRole(Unavailable):
    """The self-check refused the database login or its tables; facts hold how many faults were found."""


def sqlstate(error: BaseException) -> str:
    """The five-character SQLSTATE of *error* or of the driver error it wraps, "" when it has none."""
    original = getattr(error, "orig", error)
    return str(getattr(original, "sqlstate", None) or "")


def constraint(error: sqlalchemy.exc.IntegrityError) -> str:
    """The name of the constraint or unique index that *error* broke, "" when the server named none."""
    diagnostic = getattr(error.orig, "diag", None)
    return str(getattr(diagnostic, "constraint_name", None) or "")


def translated(error: Exception) -> Exception:
    """The AppError that *error* means: Unavailable, TryAgain, or *error* itself when it is not about availability."""
    state = sqlstate(error)
    if state in (_SERIALIZATION, _DEADLOCK):
        return TryAgain("The transaction met another one and has to be tried again.", retry_after_seconds=0.1)
    if state in _SENTENCES:
        return Unavailable(_SENTENCES[state], retry_after_seconds=1.0)
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return Unavailable("Every database connection is in use.", retry_after_seconds=1.0)
    lost = state[:2] in ("08", "53", "57") or (not state and _operational(error))
    return Unavailable("The database cannot be reached.", retry_after_seconds=1.0) if lost else error


def _operational(error: Exception) -> bool:
    kinds = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.PendingRollbackError)
    return isinstance(error, kinds) or type(error).__name__ in ("OperationalError", "InterfaceError")
