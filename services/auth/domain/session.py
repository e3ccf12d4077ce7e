"""An open session: how long it lasts, and what a refresh token that comes back means."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from services.auth.domain.people import Standing

REUSE_WINDOW = timedelta(seconds=10)
"""How long a used refresh token is still answered with its successor even when that is in use already: tabs and lost
replies.
Deviates from the letter of ASVS 5.0 10.4.5 on purpose."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long sessions last; organizations may only shorten them. Source: requirement S2, ASVS 5.0 7.3."""

    access: timedelta
    absolute: timedelta
    remembered: timedelta
    idle: timedelta
    remembered_idle: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One signed-in device of one user; generation counts the refreshes.

    refresh_digest: SHA-256 of the newest refresh token; refresh_kid: the key it was made with.
    seen_at: when the edge first saw the access handle that came with the newest refresh token.
    """

    organization_id: str
    user_id: str
    id: str
    delivery: str
    remembered: bool
    operator: bool
    user_epoch: int
    organization_epoch: int
    installation_epoch: int
    generation: int
    refresh_digest: bytes
    refresh_kid: str
    rotated_at: datetime
    seen_at: datetime | None
    idle_expires_at: datetime
    expires_at: datetime
    created_at: datetime
    ended_at: datetime | None = None
    ended_why: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """A session that is alive: who it stands for, its newest generation, whether that one's handle was seen, when
    idling ends it.
    """

    standing: Standing
    generation: int
    seen: bool
    idle_expires_at: datetime


class Verdict(Enum):
    """What to do with a refresh token that is genuinely ours."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REUSED = "reused"
    UNKNOWN = "unknown"


def judge(session: Session, generation: int, digest: bytes, *, now: datetime) -> Verdict:
    """What *session*, row locked, makes of a refresh token of *generation* whose SHA-256 is *digest*.

    ROTATE: it is the newest. REPEAT: the newest's parent, whose child is unused or younger than REUSE_WINDOW; same
    answer again.
    REUSED: older than that, so two parties hold the chain. UNKNOWN: newer than we know, or another history's (a
    restored database).
    """
    if generation == session.generation:
        return Verdict.ROTATE if digest == session.refresh_digest else Verdict.UNKNOWN
    if generation > session.generation:
        return Verdict.UNKNOWN
    unused = session.seen_at is None
    if generation == session.generation - 1 and (unused or now - session.rotated_at <= REUSE_WINDOW):
        return Verdict.REPEAT
    return Verdict.REUSED


def rotated(session: Session, *, digest: bytes, kid: str, lifetimes: Lifetimes, now: datetime) -> Session:
    """*session* with its next refresh token; idle time begins anew and never outlives the session."""
    return replace(
        session,
        generation=session.generation + 1,
        refresh_digest=digest,
        refresh_kid=kid,
        rotated_at=now,
        seen_at=None,
        idle_expires_at=idle_end(session.expires_at, session.remembered, lifetimes, now=now),
    )


def ended(session: Session, why: str, *, now: datetime) -> Session:
    """*session* ended at *now* for *why*; ending twice keeps the first end. Source: RFC 7009 section 2.2."""
    return session if session.ended_at is not None else replace(session, ended_at=now, ended_why=why)


def absolute_end(remembered: bool, lifetimes: Lifetimes, *, now: datetime) -> datetime:
    """When a session opened at *now* ends whatever is refreshed."""
    return now + (lifetimes.remembered if remembered else lifetimes.absolute)


def idle_end(expires_at: datetime, remembered: bool, lifetimes: Lifetimes, *, now: datetime) -> datetime:
    """When a session used at *now* ends for want of use."""
    return min(expires_at, now + (lifetimes.remembered_idle if remembered else lifetimes.idle))


def access_end(session: Session, lifetimes: Lifetimes, *, now: datetime) -> datetime:
    """When an access handle issued at *now* expires: never after its session."""
    return min(session.expires_at, now + lifetimes.access)
