"""Where a stream stands, where a reader stands, and whether the one leads to the other without a gap."""

import re
from dataclasses import dataclass

from libs.errors import Violation
from services.events.domain.errors import ResumeTokenInvalid

EARLIEST = "earliest"
_TOKEN = re.compile(r"([0-9a-z]{1,32})[.]([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Position:
    """A user's stream now: the epoch of the database, the oldest and newest offset kept; both 0 for an empty stream."""

    epoch: str
    oldest: int
    newest: int

    @property
    def token(self) -> str:
        """The resume token of a reader who has seen everything."""
        return token(self.epoch, self.newest)


@dataclass(frozen=True, slots=True)
class Reset:
    """A gap that cannot be filled. cause: epoch_changed, too_old or unknown."""

    cause: str
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Start:
    """Where to go on: with the event after offset `after`, once `reset` (if any) has been told."""

    after: int
    reset: Reset | None = None


def token(epoch: str, offset: int) -> str:
    """The resume token of a reader that has seen everything up to *offset*; also the `id:` of a server-sent event."""
    return f"{epoch}.{offset}"


def start(resume: str, position: Position) -> Start:
    """Decide where a reader goes on. resume: "" for now, "earliest", or a token as told before.

    A token that cannot be continued without a gap gives a Reset and goes on from the newest event.
    Raises ResumeTokenInvalid.
    """
    if resume == "":
        return Start(position.newest)
    if resume == EARLIEST:
        return Start(max(position.oldest - 1, 0))
    epoch, offset = parse(resume)
    cause = _gap(epoch, offset, position)
    return Start(offset) if cause == "" else Start(position.newest, reset(cause, position))


def check(resume: str) -> None:
    """Raises ResumeTokenInvalid unless *resume* is "", "earliest" or a token."""
    if resume not in ("", EARLIEST):
        parse(resume)


def reset(cause: str, position: Position) -> Reset:
    """The Reset that tells where the stream stands now."""
    return Reset(cause, position.oldest, position.newest)


def parse(resume: str) -> tuple[str, int]:
    """(epoch, offset) of a token. Raises ResumeTokenInvalid."""
    found = _TOKEN.fullmatch(resume)
    if found is None:
        what = "has to be <epoch>.<offset> as told before, or earliest"
        raise ResumeTokenInvalid(f"resume_token {what}.", violations=[Violation("resume_token", what)])
    return found[1], int(found[2])


def _gap(epoch: str, offset: int, position: Position) -> str:
    if epoch != position.epoch:
        return "epoch_changed"
    if offset > position.newest:
        return "unknown"
    if offset + 1 < position.oldest:
        return "too_old"
    return ""
