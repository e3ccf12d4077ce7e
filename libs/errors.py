"""The one way to refuse: a noun, a kind (what the caller should do), a stable reason, and facts.

Every reason is a name of `holdfast.common.v1.ErrorReason`; libs.rpc.errors and the HTTP edges turn an AppError into
google.rpc.Status and its HTTP equal in one table. A message is one plain sentence; each variable in it is also a fact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """What the caller should do about it, independent of any transport."""

    INVALID = "invalid"  # mend the request
    OUT_OF_RANGE = "out_of_range"  # ask for less
    UNAUTHENTICATED = "unauthenticated"  # sign in
    FORBIDDEN = "forbidden"  # give up
    NOT_FOUND = "not_found"
    EXISTS = "exists"
    CONFLICT = "conflict"  # read again, then retry
    PRECONDITION = "precondition"  # change something else first
    EXHAUSTED = "exhausted"  # wait
    UNAVAILABLE = "unavailable"  # retry
    DEADLINE = "deadline"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"  # tell us the request id


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks its bound; field is the proto path, e.g. `header.path`."""

    field: str
    description: str


class AppError(Exception):
    """Base of every deliberate refusal. Subclasses set kind and reason; nothing else is raised across rooms.

    message: one sentence for a person. retry_after_seconds: only where a retry helps. violations: for Kind.INVALID.
    facts: every variable the message names, as text.
    """

    kind: ClassVar[Kind] = Kind.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        violations: Sequence[Violation] = (),
        **facts: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.violations = tuple(violations)
        self.facts: Mapping[str, str] = {key: str(value) for key, value in facts.items()}


class InvalidArgument(AppError):
    """One or more fields break their declared bound."""

    kind, reason = Kind.INVALID, "INVALID_ARGUMENT"


class Unauthenticated(AppError):
    """No credential, or one that is not valid."""

    kind, reason = Kind.UNAUTHENTICATED, "UNAUTHENTICATED"


class ForeignName(AppError):
    """The name belongs to another organization or user than the caller's."""

    kind, reason = Kind.FORBIDDEN, "FOREIGN_NAME"


class AccessDenied(AppError):
    """The caller's role or scope does not allow it."""

    kind, reason = Kind.FORBIDDEN, "ACCESS_DENIED"


class Unavailable(AppError):
    """Something we depend on is away."""

    kind, reason = Kind.UNAVAILABLE, "UNAVAILABLE"
