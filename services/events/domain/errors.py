"""Every refusal of this service."""

from libs.errors import AppError, Kind


class TooManyStreams(AppError):
    """The user has as many open streams as allowed, over all replicas."""

    kind, reason = Kind.EXHAUSTED, "TOO_MANY_STREAMS"


class TooManyConnects(AppError):
    """The user has opened streams too often within a minute."""

    kind, reason = Kind.EXHAUSTED, "RATE_LIMITED"


class SlowReader(AppError):
    """The reader did not take a message within the write deadline; resuming continues where it stopped."""

    kind, reason = Kind.EXHAUSTED, "SLOW_READER"


class ResumeTokenInvalid(AppError):
    """The resume token is not of the form `<epoch>.<offset>`."""

    kind, reason = Kind.INVALID, "RESUME_TOKEN_INVALID"


class EventInvalid(AppError):
    """The payload is not an acceptable JSON object."""

    kind, reason = Kind.INVALID, "EVENT_INVALID"


class Draining(AppError):
    """The server is stopping; another replica, or this one in a moment, goes on."""

    kind, reason = Kind.UNAVAILABLE, "DRAINING"


class SessionEnded(AppError):
    """The stream has no session that could be asked about, or it has ended."""

    kind, reason = Kind.UNAUTHENTICATED, "SESSION_ENDED"


class ForeignEvent(AppError):
    """An event of another user reached a connection: our fault. Nothing of it is written, the stream is closed."""

    kind, reason = Kind.INTERNAL, "INTERNAL"
