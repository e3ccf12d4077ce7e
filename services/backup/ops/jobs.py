"""What operators do with the jobs of every service. Each change is one transaction with its audit entry."""

from datetime import datetime
from functools import partial

from libs import audit, ids
from libs.db import Database
from libs.db.grants import SERVICES
from libs.errors import InvalidArgument, Violation
from libs.jobqueue.enqueue import CANCEL, channel
from libs.principal import Operator, Principal, System
from services.backup.domain.errors import JobKeyTaken, JobNotFound, JobStateUnfit
from services.backup.domain.job import Filter, Job, Queue, Retried
from services.backup.store import jobs as rows

PAGE = 500
"""How many jobs one transaction touches."""
AT_ONCE = 100_000
_RETRIABLE = ("dead", "scheduled")


class Jobs:
    """who: the operator, for the audit entry; reading leaves none, except that of a payload."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def find(self, wanted: Filter, after: tuple[str, str] | None, size: int) -> rows.Listed:
        """A page of jobs; it may be short although more follow. Raises InvalidArgument for an unknown service."""
        async with self._db.begin(System("backup")) as tx:
            return await rows.list_jobs(tx, _services(wanted), wanted, after, size)

    async def get(self, who: Principal, job_id: str, *, payload: bool = False) -> Job:
        """One job, finished or not. Raises JobNotFound."""
        async with self._db.begin(who) as tx:
            found = await rows.get(tx, job_id, ids.made_at(job_id), payload=payload) if _is_id(job_id) else None
            if found is None:
                raise _absent(job_id)
            if payload:
                await audit.record(tx, "job.payload_read", job=found.id, service=found.service, type=found.type)
        return found

    async def retry(self, who: Principal, job_id: str) -> Job:
        """Make a dead or scheduled job ready. Raises JobNotFound, JobStateUnfit, JobKeyTaken."""
        async with self._db.begin(who) as tx:
            told = await rows.retry(tx, job_id)
            if told is not None and told[0] == "ready":
                job = told[1]
                await audit.record(tx, "job.retried", job=job.id, service=job.service, type=job.type)
                tx.wake(channel(job.service))
                return job
        if told is None:
            job = await self.get(who, job_id)
        else:
            outcome, job, other = told
            if outcome == "taken":
                raise JobKeyTaken(
                    f"The unfinished job {other} has the unique key of {job_id}: let it end, or cancel it first.",
                    job=job_id,
                    other=other,
                )
        raise JobStateUnfit(
            f"Job {job_id} is {job.state}: only dead and scheduled jobs can be retried.", job=job_id, state=job.state
        )

    async def retry_many(self, who: Principal, wanted: Filter, *, before: datetime | None = None) -> Retried:
        """Make all dead or scheduled jobs of *wanted* ready that were put before *before* and not claimed since, at
        most 100000 by one call. before: None, or later than now, for now; a call that goes on with an earlier one's has
        the moment that counted there.
        """
        if wanted.state not in _RETRIABLE:
            raise _invalid("filter.state", "has to be dead or scheduled")
        looked = retried = 0
        now = await self._now()
        before = min(before or now, now)
        for service in _services(wanted):
            page = rows.Page(PAGE, 0, rows.FIRST)
            while page.looked == PAGE:
                page = await self._db.retry(partial(self._retry_page, who, service, wanted, page.after, before))
                looked, retried = looked + page.looked, retried + page.done
                if looked >= AT_ONCE:
                    return Retried(retried, looked - retried, True, before)
        return Retried(retried, looked - retried, False, before)

    async def _retry_page(
        self, who: Principal, service: str, wanted: Filter, after: rows.Place, before: datetime
    ) -> rows.Page:
        async with self._db.begin(who) as tx:
            page = await rows.retry_page(tx, service, wanted, after, PAGE, before=before)
            if page.done:
                facts = {"queue": wanted.queue, "type": wanted.type, "old_state": wanted.state}
                await audit.record(tx, "jobs.retried", service=service, count=str(page.done), **facts)
                tx.wake(channel(service))
        return page

    async def cancel(self, who: Principal, job_id: str) -> Job:
        """End a job that does not run; have a running one stopped. Raises JobNotFound, JobStateUnfit."""
        async with self._db.begin(who) as tx:
            told = await rows.cancel(tx, job_id)
            if told is not None:
                outcome, job = told
                await audit.record(tx, "job.cancelled", job=job.id, service=job.service, type=job.type, state=job.state)
                if outcome == "asked":
                    tx.wake(channel(job.service), CANCEL)
                return job
        job = await self.get(who, job_id)
        raise JobStateUnfit(f"Job {job_id} has ended: it is {job.state}.", job=job_id, state=job.state)

    async def queues(self) -> list[Queue]:
        """Every queue that has jobs, a pause or a living worker, by name."""
        async with self._db.begin(System("backup")) as tx:
            return await rows.queues(tx, SERVICES)

    async def pause(self, who: Principal, service: str, queue: str, reason: str) -> Queue:
        """Let no further job of the queue begin."""
        _known(service, "name")
        async with self._db.begin(who) as tx:
            await rows.pause(tx, service, queue, name(who), reason)
            await audit.record(tx, "queue.paused", service=service, queue=queue)
        return await self._queue(service, queue)

    async def resume(self, who: Principal, service: str, queue: str) -> Queue:
        """Let jobs of the queue begin again; nothing changes when it was not paused."""
        _known(service, "name")
        async with self._db.begin(who) as tx:
            if await rows.resume(tx, service, queue):
                await audit.record(tx, "queue.resumed", service=service, queue=queue)
                tx.wake(channel(service))
        return await self._queue(service, queue)

    async def _now(self) -> datetime:
        async with self._db.begin(System("backup")) as tx:
            return await rows.now(tx)

    async def _queue(self, service: str, queue: str) -> Queue:
        async with self._db.begin(System("backup")) as tx:
            found = [one for one in await rows.queues(tx, [service]) if one.queue == queue]
        return found[0] if found else Queue(service=service, queue=queue)


def name(who: Principal) -> str:
    """The operator as text, e.g. uid:0."""
    return who.operator_id if isinstance(who, Operator) else "?"


def _services(wanted: Filter) -> tuple[str, ...]:
    if not wanted.service:
        return SERVICES
    _known(wanted.service, "filter.service")
    return (wanted.service,)


def _known(service: str, field: str) -> None:
    if service not in SERVICES:
        raise _invalid(field, f"has to name one of the services {', '.join(SERVICES)}")


def _invalid(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {why}.", violations=[Violation(field, why)], field=field)


def _is_id(text: str) -> bool:
    try:
        ids.made_at(text)
    except (ValueError, OverflowError):
        return False
    return True


def _absent(job_id: str) -> JobNotFound:
    return JobNotFound(
        f"There is no job {job_id}: the id is wrong, or it ended so long ago that its history is gone.", job=job_id
    )
