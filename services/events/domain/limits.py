"""The bounds of streams as one value; tests shorten them, configuration sets them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds.

    heartbeat: silence after which a reader hears something (a comment, a checkpoint). write: how long one write may be
    blocked before the reader is cut. life: a stream's middle length, drawn anew within a tenth either way for each.
    poll: how old a reader's view may be when no wake-up arrives. lease: how long a crashed replica's streams still
    count; refreshed each third of it. session_check: between two liveness questions; with its call below 15 (S4).
    session_grace, database_grace: how long streams go on while auth or the database is away, then they are ended.
    streams: open at once for one user, over all replicas. connects: openings of one user within a minute.
    """

    heartbeat: float = 15.0
    write: float = 10.0
    life: float = 600.0
    poll: float = 0.5
    lease: float = 30.0
    session_check: float = 10.0
    session_grace: float = 30.0
    database_grace: float = 60.0
    streams: int = 10
    connects: int = 30
