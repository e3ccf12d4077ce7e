"""Every service's jobs, through the functions of schema jobs that are granted to backup alone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text

from libs.db import Tx
from services.backup.domain.job import Filter, Guard, Job, Queue, Released

FIRST = ("-infinity", "")
"""Before every time and id."""
_LIST = text(
    "SELECT job, at, id FROM jobs.list_jobs(CAST(:services AS text[]), :queue, :type, :state,"
    " CAST(:at AS timestamptz), :id, :page)"
)
# What the job's own service put stays text: it may be more than JSON in Python can hold.
_GET = text(
    "SELECT told - ARRAY['payload', 'progress'] AS job, coalesce((told -> 'payload')::text, '') AS payload,"
    " coalesce(nullif(told -> 'progress', 'null')::text, '') AS progress"
    " FROM jobs.get_job(:id, CAST(:about AS timestamptz), :payload) AS told"
)
_RETRY = text("SELECT outcome, job, holder FROM jobs.retry_job(:id)")
_RETRY_PAGE = text(
    "SELECT looked, retried, at, id FROM jobs.retry_page(:service, :queue, :type, :state, CAST(:at AS timestamptz),"
    " :id, :page, CAST(:before AS timestamptz))"
)
_CANCEL = text("SELECT outcome, job FROM jobs.cancel_job(:id)")
_PAUSE = text("SELECT jobs.pause_queue(:service, :queue, :by, :reason)")
_RESUME = text("SELECT jobs.resume_queue(:service, :queue)")
_QUEUES = text("SELECT * FROM jobs.queue_figures(CAST(:services AS text[]))")
_NOW = text("SELECT clock_timestamp()")
_GUARD = text("SELECT * FROM jobs.guard_told()")
_HOLD = text("SELECT jobs.hold(:why, :by)")
_ACCEPT = text("SELECT jobs.accept_timeline(:why, :by)")
_OPEN = text("SELECT jobs.open_guard(:why, :by)")
_QUARANTINE = text("SELECT jobs.quarantine(:id, :page)")
_SWEEP = text("SELECT jobs.sweep_ready(:block)")
_RELEASE = text(
    "SELECT looked, requeued, discarded, dead, at, id FROM jobs.release_page(:service, :discard,"
    " CAST(:at AS timestamptz), :id, :page)"
)
_DESCENDING = ("infinity", "z")  # later than any time and any id

Place = tuple[datetime | str, str]
"""(time, id) of a list's order, after which to go on."""


class Listed(NamedTuple):
    """after: where the next page begins, None on the last one."""

    jobs: list[Job]
    after: tuple[str, str] | None


class Page(NamedTuple):
    """looked: how many jobs this page had; done: of those, how many are ready now; after: where the next begins."""

    looked: int
    done: int
    after: Place


async def list_jobs(
    tx: Tx, services: Sequence[str], wanted: Filter, after: tuple[str, str] | None, size: int
) -> Listed:
    """A page of the jobs of *wanted*, less its service, in these services."""
    ascending = wanted.state in ("scheduled", "running")
    at, id_ = after or (("-infinity", "") if ascending else _DESCENDING)
    values = {"services": list(services), "queue": wanted.queue, "type": wanted.type, "state": wanted.state}
    rows = (await tx.execute(_LIST, values | {"at": at, "id": id_, "page": size + 1})).all()
    kept = rows[:size]
    looked_on = bool(kept) and kept[-1].job is None
    last = kept[-1] if looked_on or len(rows) > size else None
    jobs = [Job.from_json(row.job) for row in kept if row.job is not None]
    return Listed(jobs, (_text(last.at), last.id) if last else None)


async def get(tx: Tx, job_id: str, about: datetime, *, payload: bool) -> Job | None:
    """The job, finished or not. about: when its id was made, near which its history is sought first."""
    row = (await tx.execute(_GET, {"id": job_id, "about": about, "payload": payload})).one()
    return None if row.job is None else Job.from_json({**row.job, "payload": row.payload, "progress": row.progress})


async def retry(tx: Tx, job_id: str) -> tuple[str, Job, str] | None:
    """(ready, unfit or taken; the job; who has its key); None when no unfinished job has this id."""
    row = (await tx.execute(_RETRY, {"id": job_id})).first()
    return None if row is None else (row.outcome, Job.from_json(row.job), row.holder)


async def retry_page(tx: Tx, service: str, wanted: Filter, after: Place, size: int, *, before: datetime) -> Page:
    """Make a page of *service*'s dead or scheduled jobs ready, of those put before *before* and not claimed since."""
    values = {"service": service, "queue": wanted.queue, "type": wanted.type, "state": wanted.state}
    place = {"at": after[0], "id": after[1], "page": size, "before": before}
    row = (await tx.execute(_RETRY_PAGE, values | place)).one()
    return Page(row.looked, row.retried, (row.at, row.id) if row.looked else after)


async def cancel(tx: Tx, job_id: str) -> tuple[str, Job] | None:
    """(ended or asked; the job); None when no unfinished job has this id."""
    row = (await tx.execute(_CANCEL, {"id": job_id})).first()
    return None if row is None else (row.outcome, Job.from_json(row.job))


async def pause(tx: Tx, service: str, queue: str, by: str, reason: str) -> None:
    """Let no further job of the queue begin; the first moment stays when it was paused already."""
    await tx.execute(_PAUSE, {"service": service, "queue": queue, "by": by, "reason": reason})


async def resume(tx: Tx, service: str, queue: str) -> bool:
    """Let them begin again; whether the queue was paused."""
    return bool((await tx.execute(_RESUME, {"service": service, "queue": queue})).scalar())


async def queues(tx: Tx, services: Sequence[str]) -> list[Queue]:
    """What is in each queue of these services, by service and name."""
    rows = (await tx.execute(_QUEUES, {"services": list(services)})).mappings()
    return [Queue(**row) for row in rows]


async def now(tx: Tx) -> datetime:
    """The database's time."""
    found: datetime = (await tx.execute(_NOW)).scalar_one()
    return found


async def guard(tx: Tx) -> Guard:
    """The guard, and what it guards."""
    return Guard(**(await tx.execute(_GUARD)).mappings().one())


async def hold(tx: Tx, why: str, by: str) -> bool:
    """Let nothing be claimed from *tx*'s commit on; whether jobs could be until then."""
    return bool((await tx.execute(_HOLD, {"why": why, "by": by})).scalar())


async def accept_timeline(tx: Tx, why: str, by: str) -> bool:
    """Let jobs run on the database's timeline, unless they are held; whether it was another one."""
    return bool((await tx.execute(_ACCEPT, {"why": why, "by": by})).scalar())


async def open_guard(tx: Tx, why: str, by: str) -> None:
    """Let jobs run on the database's timeline from now on."""
    await tx.execute(_OPEN, {"why": why, "by": by})


async def quarantine(tx: Tx, after: str, size: int) -> str | None:
    """Quarantine a page of the jobs that were put before the hold; where the next begins, None when there is none."""
    found: str | None = (await tx.execute(_QUARANTINE, {"id": after, "page": size})).scalar()
    return found


async def sweep_ready(tx: Tx, block: int) -> int | None:
    """Remove ready rows of quarantined jobs from 200 blocks of the table; the next block, None at its end."""
    found: int | None = (await tx.execute(_SWEEP, {"block": block})).scalar()
    return found


async def release_page(tx: Tx, service: str, after: Place, size: int, *, discard: bool) -> tuple[Page, Released]:
    """Put a page of *service*'s quarantined jobs back, or give them up."""
    values = {"service": service, "discard": discard, "at": after[0], "id": after[1], "page": size}
    row = (await tx.execute(_RELEASE, values)).one()
    page = Page(row.looked, row.requeued, (row.at, row.id) if row.looked else after)
    return page, Released(row.requeued, row.discarded, row.dead)


def _text(at: Any) -> str:
    return at.isoformat() if isinstance(at, datetime) else _DESCENDING[0]
