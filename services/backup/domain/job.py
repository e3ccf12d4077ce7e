"""Jobs, queues and the guard as an operator sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

UNFINISHED = ("scheduled", "ready", "running", "dead", "quarantined")
FINISHED = ("done", "discarded", "cancelled")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs are meant; "" does not restrict, but no state means every unfinished one."""

    service: str = ""
    queue: str = ""
    type: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job; a finished one keeps no priority, key, limits and worker. payload, progress: JSON
    as it is stored, empty when not asked for or when there is none.
    """

    id: str
    service: str
    queue: str
    type: str
    state: str
    organization_id: str = ""
    user_id: str = ""
    priority: int = 0
    unique_key: str = ""
    failures: int = 0
    max_attempts: int = 0
    crashes: int = 0
    lease: int = 0
    worker_id: str = ""
    error: str = ""
    created_at: datetime
    run_at: datetime | None = None
    claimed_at: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    cancelled_at: datetime | None = None
    payload: str = ""
    progress: str = ""

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Job":
        """The job of an object whose times are ISO 8601."""
        return cls(**{name: _read(name, value) for name, value in fields.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue of one service and what is in it; counts stop at 10000. paused_at: None while jobs begin."""

    service: str
    queue: str
    ready: int = 0
    running: int = 0
    scheduled: int = 0
    dead: int = 0
    oldest_ready_seconds: float | None = None
    workers: int = 0
    paused_at: datetime | None = None
    paused_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Whether jobs may run in this database, and why. timeline: on which they may. quarantined stops at 10000."""

    state: str
    timeline: int
    database_timeline: int
    may_run: bool
    reason: str
    changed_at: datetime
    changed_by: str
    quarantined: int


@dataclass(frozen=True, slots=True)
class Retried:
    """skipped: left as they were, because another job has their key. more: not every job was looked at. before: what
    was put or claimed since is left alone.
    """

    retried: int
    skipped: int
    more: bool
    before: datetime


@dataclass(frozen=True, slots=True)
class Released:
    """What became of quarantined jobs. dead: those whose unique key a newer job has."""

    requeued: int = 0
    discarded: int = 0
    dead: int = 0

    def __add__(self, other: "Released") -> "Released":
        return Released(self.requeued + other.requeued, self.discarded + other.discarded, self.dead + other.dead)


def _read(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name.endswith("_at") and value is not None else value
