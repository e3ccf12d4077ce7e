"""What has to be done when: a pure function of the repository, of what was tried last, and of the time.

Backups have slots: the daily full one begins at a time of day, somewhere within a window; differential ones follow at
equal distances. A slot is filled when the repository lists a good backup that began in it, whoever took it. Only the
newest slot counts: whatever was missed is caught up with once. Expiry and verification recur on periods of their own.
What lies in the future, a backup or an attempt, proves nothing: a clock was wrong.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from services.backup.domain.reading import Document, Small
from services.backup.domain.repository import Repository

SKEW = timedelta(minutes=5)
"""How far clocks of two hosts may differ."""
_DAY = timedelta(days=1)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)
_SETTLED = {"expire": timedelta(minutes=5), "verify": timedelta(minutes=30)}


class Task(Enum):
    """What is done by itself, most urgent first."""

    FULL = "full"
    DIFFERENTIAL = "diff"
    EXPIRE = "expire"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Rules:
    """full_at: since midnight UTC. window: how late after it a full may begin. between: from one backup to the next.

    first_full: how long a new installation is left alone. expire, verify: periods.
    """

    full_at: timedelta
    window: timedelta
    between: timedelta
    first_full: timedelta
    expire: timedelta
    verify: timedelta


@dataclass(frozen=True, slots=True)
class Attempt(Document):
    """The last time a task was tried. slot: which occasion. again: whether its fault may pass by itself.

    failures: in a row, for this slot. fault: "" when ok. good_at: when the task last ended well, whatever the slot.
    """

    slot: str
    ended_at: datetime
    ok: bool
    again: bool = False
    failures: Small = 0
    fault: str = ""
    good_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """One task, when it is due, on which occasion, and why; in the past when it is due already."""

    task: Task
    at: datetime
    slot: str
    why: str


@dataclass(frozen=True, slots=True)
class Situation:
    """held: None when the repository cannot be read. since: when the service began. urgent: why a full is needed now,
    as (slot, words); ("", "") when it is not. seed: what makes the jitter of this installation its own.
    """

    held: Repository | None
    attempts: Mapping[Task, Attempt]
    now: datetime
    since: datetime
    urgent: tuple[str, str] = ("", "")
    seed: str = ""


def agenda(rules: Rules, seen: Situation) -> list[Due]:
    """What comes next of each task, the earliest first; nothing while the repository cannot be read."""
    if seen.held is None:
        return []
    full = _paused(_full(rules, seen, seen.held), rules, seen)
    found = [full]
    if seen.held.fulls() and full.at > seen.now:
        found.append(_paused(_differential(rules, seen, seen.held), rules, seen))
    if seen.held.backups:
        found += [_recurring(Task.EXPIRE, rules.expire, seen), _recurring(Task.VERIFY, rules.verify, seen)]
    order = list(Task)
    return sorted(found, key=lambda due: (max(due.at, seen.now), order.index(due.task)))


def tried(before: Attempt | None, due: Due, *, now: datetime, again: bool = False, fault: str = "") -> Attempt:
    """The attempt that just ended. fault: "" when it ended well."""
    if not fault:
        return Attempt(due.slot, now, True, good_at=now)
    failures = before.failures + 1 if before is not None and before.slot == due.slot and not before.ok else 1
    return Attempt(due.slot, now, False, again, failures, fault, before.good_at if before else None)


def _full(rules: Rules, seen: Situation, held: Repository) -> Due:
    slot, words = seen.urgent
    if slot:
        return Due(Task.FULL, seen.now, slot, words)
    if not held.fulls():
        if held.backups:
            words = "no good full backup of the running database exists"
            return Due(Task.FULL, seen.now, f"database {held.database_id}", words)
        return Due(Task.FULL, seen.since + rules.first_full, "first", "there is no backup yet")
    current = _slot(rules.full_at, _DAY, seen.now)
    if _filled(seen, Task.FULL, current, (one.started_at for one in held.fulls())):
        current += _DAY
    due = current + rules.window * _share(seen.seed, current)
    words = f"the daily full backup of {current:%Y-%m-%d}"
    if seen.now > current + rules.window:
        words += ", which was missed"
    return Due(Task.FULL, due, _named(current), words)


def _differential(rules: Rules, seen: Situation, held: Repository) -> Due:
    day = _slot(rules.full_at, _DAY, seen.now)
    current = day + rules.between * ((seen.now - day) // rules.between)
    own = (one.started_at for one in held.backups if one.good and one.database_id == held.database_id)
    if current == day or _filled(seen, Task.DIFFERENTIAL, current, own):
        current += rules.between
    if current >= day + _DAY:
        # The day ends with the next full backup; the first differential one comes after that.
        current = day + _DAY + rules.between
    return Due(Task.DIFFERENTIAL, current, _named(current), f"the backup between two full ones, of {current:%H:%M} UTC")


def _recurring(task: Task, period: timedelta, seen: Situation) -> Due:
    last = seen.attempts.get(task)
    if last is None or last.ended_at > seen.now + SKEW:
        settled = seen.since + _SETTLED[task.value]
        return Due(task, settled, _named(settled), "never done by this service")
    at = last.ended_at + period * (1 - 0.1 * _share(seen.seed + task.value, last.ended_at))
    words = f"every {_hours(period)}, last {last.ended_at:%Y-%m-%d %H:%M} UTC"
    if not last.ok:
        if last.again:
            at = min(at, last.ended_at + _pause(last.failures))
        words = f"the last time failed: {last.fault}"
    return Due(task, at, "recurring", words)


def _paused(due: Due, rules: Rules, seen: Situation) -> Due:
    """*due*, later when it has just failed: soon for what may pass by itself, else at the next slot's distance."""
    last = seen.attempts.get(due.task)
    if last is None or last.ok or last.slot != due.slot or last.ended_at > seen.now + SKEW:
        return due
    pause = _pause(last.failures) if last.again else rules.between
    outlook = "it is tried again" if last.again else "a person has to look at it; it is tried again"
    words = f"{due.why}; it failed {last.failures} times and {outlook}: {last.fault}"
    return replace(due, at=max(due.at, last.ended_at + pause), why=words)


def _filled(seen: Situation, task: Task, slot: datetime, began: Iterable[datetime]) -> bool:
    """Whether the repository shows it, or we know that we did it: clocks of repository and service may differ."""
    last = seen.attempts.get(task)
    done = last is not None and last.ok and last.slot == _named(slot)
    return done or any(slot <= at <= seen.now + SKEW for at in began)


def _slot(offset: timedelta, period: timedelta, now: datetime) -> datetime:
    """The newest slot that has begun."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first: datetime = midnight + offset - period
    return first + period * ((now - first) // period)


def _pause(failures: int) -> timedelta:
    return min(_FIRST_PAUSE * (1 << min(max(failures, 1) - 1, 10)), _LONGEST_PAUSE)


def _share(seed: str, at: datetime) -> float:
    """0 to 1: the same on every host and after every restart, another one for another slot."""
    drawn = hashlib.sha256(f"{seed}|{at.isoformat()}".encode()).digest()[:4]
    return int.from_bytes(drawn) / 2**32


def _named(slot: datetime) -> str:
    return slot.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


def _hours(period: timedelta) -> str:
    return f"{period.total_seconds() / 3600:g} hours"


def due_now(found: Sequence[Due], now: datetime) -> Due | None:
    """The first of an agenda that is due, None when none is."""
    return next((one for one in found if one.at <= now), None)
