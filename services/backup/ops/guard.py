"""The guard against a restored database: its old jobs must not run again by themselves.

The ledger of heartbeats lies outside the database. A database that does not have the newest beat of it has gone back in
time: everything it would run may have been run already, after the moment it was restored to. Then jobs are held and
quarantined until an operator has decided. A database that has that beat on a new timeline has lost nothing this service
knows of, a failover; its timeline is accepted. Without a ledger nothing vouches for a new timeline, so it is held.

Streams of events begin a new epoch with the hold, not with the release: events go on being appended while jobs wait,
under offsets that readers know from the lost future. It is changed once per restore, whoever finds it and how often.
"""

import asyncio
from functools import partial

from libs import audit, process
from libs.db import Database, Tx
from libs.db.grants import SERVICES
from libs.errors import AppError
from libs.jobqueue.enqueue import channel
from libs.observability import log
from libs.principal import Principal, System
from services.backup.domain import job
from services.backup.domain.errors import GuardOpen
from services.backup.domain.heartbeat import Beat
from services.backup.domain.job import Released
from services.backup.ops.jobs import name
from services.backup.store import epoch
from services.backup.store import jobs as rows
from services.backup.store import known as beats

_log = log.get(__name__)
_WHO = System("backup")
_BY = "backup"
_PAGE = 1000


class Guard:
    """Holds, accepts and releases. A Part, because what follows a hold takes its time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._task: asyncio.Task[None] | None = None

    async def look(self, tx: Tx, known: Beat | None) -> bool:
        """Compare the database with the newest beat *known* outside it, before another one is written.

        True when it is behind: then *tx* holds every job and begins a new epoch, and `quarantine` is due once it is
        committed.
        """
        now = await rows.guard(tx)
        newest, signature = await beats.newest(tx, known.sequence if known else 0)
        why = _why_held(now, known, newest, signature)
        if why:
            if await rows.hold(tx, why, _BY):
                await audit.record(tx, "jobs.held", cause="restored")
            if await epoch.change(tx, known.created_at if known else None, why):
                _log.warning("event_epoch_changed", why=why)
            _log.error("jobs_held", why=why, next="holdfast jobs guard")
            return True
        if now.timeline != now.database_timeline and now.state == "open":
            told = f"timeline {now.database_timeline} after {now.timeline}, and no heartbeat is missing"
            await rows.accept_timeline(tx, told, _BY)
            await audit.record(tx, "jobs.timeline_accepted", old_state=str(now.timeline))
            _log.warning("timeline_accepted", before=now.timeline, now=now.database_timeline)
        return False

    async def quarantine(self) -> None:
        """Quarantine what had been put before the hold, in pages. Repeating it is harmless."""
        after: str | None = ""
        while after is not None:
            # A worker writes how its jobs ended by kinds of ends, so the two can lock jobs crosswise.
            after = await self._db.retry(partial(self._quarantine_page, after))
        block: int | None = 0
        while block is not None:
            async with self._db.begin(_WHO) as tx:
                block = await rows.sweep_ready(tx, block)

    async def _quarantine_page(self, after: str) -> str | None:
        async with self._db.begin(_WHO) as tx:
            return await rows.quarantine(tx, after, _PAGE)

    def quarantine_soon(self) -> None:
        """Begin to quarantine; heartbeats do not wait for it, and a release makes up for what was cut off."""
        if self._task is None or self._task.done():
            self._task = process.spawn(self._quarantining(), name="quarantine")

    async def start(self) -> None:
        """Nothing: heartbeats ask it to look."""

    def refuse(self) -> None:
        """Nothing."""

    async def drain(self, seconds: float) -> None:
        """Nothing to hand over."""

    async def stop(self) -> None:
        """End the quarantining."""
        await process.cancel(self._task)

    async def _quarantining(self) -> None:
        try:
            await self.quarantine()
        except AppError as error:
            _log.warning("quarantine_cut_off", reason=error.reason)
        else:
            _log.warning("jobs_quarantined")

    async def told(self) -> job.Guard:
        """The guard as it is now."""
        async with self._db.begin(_WHO) as tx:
            return await rows.guard(tx)

    async def warnings(self) -> list[str]:
        """That no job runs, in a sentence; [] when jobs may, or when the database cannot be asked."""
        try:
            now = await self.told()
        except AppError:
            return []
        return [] if now.may_run else ["No job runs in this database: see `holdfast jobs guard`."]

    async def release(self, who: Principal, *, discard: bool) -> Released:
        """Let jobs run again, the quarantined ones put back or given up. Raises GuardOpen when they may run."""
        now = await self.told()
        if now.may_run and not now.quarantined:
            raise GuardOpen("Nothing is held: jobs may run in this database.")
        if discard and now.state == "open" and not now.may_run:
            # Only the timeline keeps jobs from running: no heartbeat has looked yet, and nothing could be quarantined.
            async with self._db.begin(_WHO) as tx:
                await rows.hold(tx, f"timeline {now.database_timeline} after {now.timeline}", name(who))
        await self.quarantine()
        async with self._db.begin(who) as tx:
            verb = "discarded" if discard else "requeued"
            # Opened first: nothing is quarantined once it is open, so what is released is not taken back.
            await rows.open_guard(tx, f"released, quarantined jobs {verb}", name(who))
            await audit.record(tx, "jobs.released", mode=verb)
        done = Released()
        for service in SERVICES:
            done += await self._release(who, service, discard)
        return done

    async def _release(self, who: Principal, service: str, discard: bool) -> Released:
        done = Released()
        after: rows.Place = rows.FIRST
        while True:
            page, part = await self._db.retry(partial(self._release_page, who, service, after, discard=discard))
            done, after = done + part, page.after
            if page.looked < _PAGE:
                return done

    async def _release_page(
        self, who: Principal, service: str, after: rows.Place, *, discard: bool
    ) -> tuple[rows.Page, Released]:
        async with self._db.begin(who) as tx:
            tx.wake(channel(service))
            return await rows.release_page(tx, service, after, _PAGE, discard=discard)


def _why_held(now: job.Guard, known: Beat | None, newest: int, signature: str) -> str:
    """Why jobs have to be held, "" when they need not be."""
    if known is None:
        changed = now.timeline != now.database_timeline and now.state == "open"
        return (
            f"timeline {now.database_timeline} after {now.timeline}, and no heartbeat is kept here" if changed else ""
        )
    if newest < known.sequence:
        return f"the newest heartbeat is {newest}, but {known.sequence} is known: this is a restored database"
    if signature not in ("", known.signature):
        return f"heartbeat {known.sequence} is not the one that is known: this is a restored database"
    return ""
