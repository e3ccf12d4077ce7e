"""Jobs made again and again, by the database's clock and without a leader.

Ticks are multiples of the interval since 1970 (plus an offset), so that every replica of a service means the same
moments by the same word. The row of a tick in jobs.ticks is written in the job's own transaction, once and never behind
a later tick: however many replicas try, one job follows from it. A worker's own clock is never asked.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import text

from libs.db import Database
from libs.errors import Unavailable
from libs.jobqueue.enqueue import LONGEST_UNIQUE, put
from libs.jobqueue.job import UNSTORABLE, JobInvalid, encode, kind
from libs.observability import log
from libs.principal import System

_log = log.get(__name__)

SHORTEST = timedelta(seconds=1)
MOST = 1000
LATE = timedelta(minutes=5)
"""How late a tick is still on time: a deployment takes as long."""
_KEY = "periodic:"
LONGEST_NAME = LONGEST_UNIQUE - len(_KEY)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_TIME = timedelta(0)
_KEPT = 100  # intervals; a row is needed until a later one is there
_LONGEST_SECONDS = 60.0
_AGAIN_SECONDS = 5.0

# Nothing is made while the database may be a restored one; what is missed then is missed as in a downtime.
_NEWEST = text(
    """
    SELECT wanted.task, clock_timestamp() AS now, (
        SELECT tick FROM jobs.ticks t WHERE t.service = :service AND t.task = wanted.task ORDER BY tick DESC LIMIT 1
    ) AS newest
    FROM unnest(CAST(:tasks AS text[])) AS wanted (task) WHERE jobs.may_run()
    """
)
_TICK = text(
    """
    INSERT INTO jobs.ticks (service, task, tick, job_id) SELECT :service, :task, :tick, :job_id
    WHERE NOT EXISTS (SELECT FROM jobs.ticks WHERE service = :service AND task = :task AND tick >= :tick)
    ON CONFLICT DO NOTHING RETURNING tick
    """
)
_FORGET = text("DELETE FROM jobs.ticks WHERE service = :service AND task = :task AND tick < :before")


@dataclass(frozen=True, slots=True)
class Periodic:
    """One job at each tick, that is at each multiple of *every* since 1970-01-01 UTC plus *offset*; for the service
    itself.

    name: of the task, by default the type of the job; a service's names differ, and a new name is a new task: its first
    job is made at the next tick. misfire: what becomes of ticks that passed while no replica was there: `once`, one job
    for all of them; `skip`, none, unless the last one is at most LATE ago; `all`, one for each, the latest *at_most* of
    them. alone: no job is made at a tick at which an earlier one has not finished. Raises JobInvalid.
    """

    job: Any
    _: KW_ONLY
    every: timedelta
    offset: timedelta = _NO_TIME
    misfire: Literal["once", "skip", "all"] = "once"
    at_most: int = 100
    alone: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse what could never be made."""
        encode(self.job)
        if self.every < SHORTEST:
            raise JobInvalid("A periodic job is made once in a second at most.")
        if not 1 <= self.at_most <= MOST:
            raise JobInvalid(f"at_most is from 1 to {MOST}.")
        if not self.name:
            object.__setattr__(self, "name", kind(type(self.job)).name)
        if len(self.name) > LONGEST_NAME or UNSTORABLE.search(self.name):
            raise JobInvalid(f"A task's name has at most {LONGEST_NAME} characters, none of them zero or half a one.")

    def last_tick(self, now: datetime) -> datetime:
        """The latest tick that is not after *now*."""
        return now - (now - _EPOCH - self.offset) % self.every

    def due(self, now: datetime, newest: datetime) -> list[datetime]:
        """The ticks after *newest* that get a job at *now*, oldest first."""
        last = self.last_tick(now)
        missed = -((newest - last) // self.every)
        if missed <= 0 or (self.misfire == "skip" and now - last > LATE):
            return []
        count = min(missed, self.at_most) if self.misfire == "all" else 1
        return [last - self.every * ago for ago in reversed(range(count))]


class Timetable:
    """Makes the periodic jobs of a service; workers run them. A libs.process.Part, for each replica that likes."""

    def __init__(self, database: Database, service: str, tasks: Sequence[Periodic]) -> None:
        self._database, self._service = database, service
        self._tasks = {task.name: task for task in tasks}
        if len(self._tasks) < len(tasks):
            raise JobInvalid("Two periodic jobs have the same name.")
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, whether or not the database is there."""
        self._running = asyncio.create_task(self._run(), name="timetable")

    def refuse(self) -> None:
        """Make nothing more; a job under way is made wholly or not at all."""
        if self._running is not None:
            self._running.cancel()

    async def drain(self, seconds: float) -> None:
        """Nothing: what was made is in the queue."""

    async def stop(self) -> None:
        """End."""
        self.refuse()
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    async def make_due(self) -> float:
        """Make every job that is due; returns in how many seconds to ask again."""
        async with self._database.begin(System(self._service)) as tx:
            rows = (await tx.execute(_NEWEST, {"service": self._service, "tasks": list(self._tasks)})).all()
        wait = _LONGEST_SECONDS
        for row in rows:
            task = self._tasks[row.task]
            try:
                await self._make(task, row.now, row.newest)
            except Unavailable:
                raise
            except Exception:
                # What is wrong with one task must not keep the others from being made.
                _log.exception("a periodic job cannot be made", task=task.name)
            wait = min(wait, (task.last_tick(row.now) + task.every - row.now).total_seconds())
        return wait

    async def _make(self, task: Periodic, now: datetime, newest: datetime | None) -> None:
        if newest is None:
            await self._record(task, task.last_tick(now), first=True)
            return
        if newest > now + task.every:
            _log.error(
                "a periodic task stands still: it has a tick in the future; delete its row in jobs.ticks if the clock"
                " of the database was ahead", task=task.name, tick=newest.isoformat(),
            )  # fmt: skip
        for tick in task.due(now, newest):
            await self._record(task, tick)

    async def _record(self, task: Periodic, tick: datetime, *, first: bool = False) -> None:
        """The tick with its job, or neither when it has one; the row of a *first* tick only says since when the task is
        known.
        """
        where = {"service": self._service, "task": task.name}
        try:
            async with self._database.begin(System(self._service)) as tx:
                made = "" if first else await put(tx, task.job, unique=f"{_KEY}{task.name}" if task.alone else "")
                if not (await tx.execute(_TICK, {**where, "tick": tick, "job_id": made})).all():
                    raise _Taken
                await tx.execute(_FORGET, {**where, "before": tick - task.every * _KEPT})
        except _Taken:
            return

    async def _run(self) -> None:
        while True:
            try:
                wait = await self.make_due()
            except Unavailable as error:
                _log.warning("cannot make periodic jobs", error=error.message)
                wait = _AGAIN_SECONDS
            except Exception:
                _log.exception("periodic jobs cannot be made")
                wait = _AGAIN_SECONDS
            # Not all replicas at once: whoever comes second finds the tick taken.
            await asyncio.sleep(wait + random.uniform(0, 0.1))


class _Taken(Exception):
    """Undoes a job whose tick another replica has."""
