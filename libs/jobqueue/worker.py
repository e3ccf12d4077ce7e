"""A worker: claims what it has room for, runs handlers, settles in batches, watches over itself and dead others."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs import ids
from libs.db import Database, Listener
from libs.db.waker import COOL_DOWN_SECONDS
from libs.errors import Unavailable
from libs.jobqueue import audited, heart, rescue
from libs.jobqueue.claim import PROMOTION_PAGE, Claimer, Found
from libs.jobqueue.completion import States, Told
from libs.jobqueue.enqueue import CANCEL, channel
from libs.jobqueue.job import DEFAULT_QUEUE, Handler, Lease, by_name
from libs.jobqueue.run import Run, Starting
from libs.jobqueue.settler import Settler
from libs.jobqueue.strays import Strays
from libs.jobqueue.waits import drawn, soon
from libs.observability import log

_log = log.get(__name__)

Observe = Callable[[str, str, int], None]
"""Told (event, job type, count): claimed, finished, retried, dead, released, stale, rescued."""

_TIDY_EVERY = 100  # rounds of the reaper
_LINGER_SECONDS = 0.005
_SMALL = 16
_KEEN_SECONDS = 0.015
_STOP_SECONDS = 0.1
_EVENTS = {"": "stale", "dead": "dead"}  # by the state a job is in now; else by how it ended
_LAST_WORDS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How often a worker does things, in seconds; every wait is drawn from the upper half of its length."""

    poll_seconds: float = 1.0
    beat_seconds: float = 10.0
    dead_seconds: float = 40.0
    reap_seconds: float = 10.0
    flush_seconds: float = 0.05


_USUAL = Timing()


def _ignore(event: str, type: str, count: int) -> None:
    """Nobody counts."""


class Worker:
    """Runs jobs of one queue of a service in this event loop, at most *concurrency* at once. A libs.process.Part.

    handlers: job type → handler. A job whose payload cannot be read goes to the dead letters; one of another type is
    tried again later, in case a newer replica knows it. tenant_slots: how many jobs of one tenant this worker runs at
    once, 0 for no such limit. It starts without the database and goes on when it comes back; polling is the path that
    is always right, wake-ups only shorten it.
    """

    def __init__(
        self,
        database: Database,
        service: str,
        handlers: Mapping[type[Any], Handler[Any]],
        *,
        queue: str = DEFAULT_QUEUE,
        concurrency: int = 8,
        tenant_slots: int = 0,
        timing: Timing = _USUAL,
        observe: Observe = _ignore,
    ) -> None:
        self.id = ids.new_id()
        self._database, self._service = database, service
        self._names = (service, self.id, queue)
        self._handlers = by_name(handlers)
        self._concurrency, self._tenant_slots = concurrency, tenant_slots
        self._timing, self._observe = timing, observe
        self._runs: dict[str, Run] = {}
        self._starting, self._stuck = Starting(), list[Run]()
        self._stir, self._looked = asyncio.Event(), asyncio.Event()
        self._refusing = self._asking = self._held = False
        self._claims = (0, 0)  # begun, ended
        self._tasks: list[asyncio.Task[None]] = []
        trail = self._trail = audited.trail(handlers)
        self._taken_back = trail.taken_back if trail else None
        self._strays = Strays(database, service, self.id, also=self._taken_back)
        self._claimer = Claimer(
            database, service, self.id, queue=queue, wanted=lambda: not self._refusing,
            also=trail.claimed if trail else None,
        )  # fmt: skip
        self._many = max(1, min(250, concurrency // 4))
        # While one half runs and is settled, the other is being claimed.
        self._share = max(_SMALL, concurrency // 3)
        self._settler = Settler(
            database, service, timing.flush_seconds, many=self._many, settled=self._settled,
            also=trail.ended if trail else None,
        )  # fmt: skip
        self._listener = Listener(database, [channel(service)], self._heard)
        self._heart: heart.Heart | None = None

    async def start(self) -> None:
        """Begin to beat, listen, claim and rescue."""
        self._heart = self._new_heart(asyncio.get_running_loop())
        self._heart.start()
        await self._listener.start()
        loops = (
            self._claiming,
            self._promoting,
            self._looking,
            self._reaping,
            self._tidying,
            self._stopping,
            self._settler.run,
        )
        self._tasks = [asyncio.create_task(self._lasting(loop)) for loop in loops]

    def refuse(self) -> None:
        """Claim nothing more, not even by a claim under way; running jobs go on."""
        self._refusing = True
        self._stir.set()

    async def drain(self, seconds: float) -> None:
        """Let running jobs finish within *seconds*, then give the rest back unharmed: no attempt and no crash is
        counted.
        """
        self.refuse()
        await self._idle(seconds)
        for run in list(self._runs.values()):
            run.release()
        await self._idle(_LAST_WORDS_SECONDS)

    async def stop(self) -> None:
        """Sign off. What still runs, because it ignores its cancellation, is rescued by others."""
        self.refuse()
        for run in list(self._runs.values()):
            run.release()
        await self._idle(_LAST_WORDS_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.stop()
        if self._heart is not None:
            await asyncio.to_thread(self._heart.stop)

    def _new_heart(self, loop: asyncio.AbstractEventLoop) -> heart.Heart:
        return heart.Heart(
            self._database.settings(),
            self._names,
            beat_seconds=self._timing.beat_seconds,
            dead_seconds=self._timing.dead_seconds,
            held=lambda: {job: heart.Hold(run.lease.lease, run.until) for job, run in list(self._runs.items())},
            tell=lambda told: _tell(loop, self._told, told),
            also=self._trail.overran if self._trail else None,
        )

    def _heard(self, _channel: str, payload: str) -> None:
        self._stir.set()
        if payload == CANCEL and self._heart is not None:
            self._heart.hurry()

    async def _lasting(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Begin *loop* again when it fails in a way nobody thought of: a worker that lives must not stand still."""
        while True:
            try:
                await loop()
            except Exception:
                _log.exception("a worker's loop failed and begins again", loop=loop.__name__)
                await asyncio.sleep(drawn(self._timing.poll_seconds))
            else:
                return

    async def _claiming(self) -> None:
        failures, loop = 0, asyncio.get_running_loop()
        found_at = float("-inf")
        # The first look tells where to begin; without one a claim may have to walk there each time.
        await self._looked.wait()
        while not self._refusing:
            self._stir.clear()
            try:
                claimed = await self._claim()
                failures = 0
            except Unavailable as error:
                claimed, failures = 0, min(failures + 1, 5)
                _log.warning("cannot claim jobs", error=error.message)
            if claimed:
                found_at = loop.time()
            if not claimed:
                # Where jobs keep coming their wake-ups melt into one for as long as the cool-down.
                keen = self._free() and loop.time() - found_at < 2 * COOL_DOWN_SECONDS
                await soon(self._stir, _KEEN_SECONDS if keen else self._timing.poll_seconds * 2**failures)
            elif self._free() < self._many:
                await self._room()

    def _free(self) -> int:
        return self._concurrency - len(self._runs)

    async def _room(self) -> None:
        """Wait until some slots are free, so that a busy queue is claimed by the dozen; for a moment at most, so that
        one free slot beside long jobs is used as well.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timing.poll_seconds
        while self._free() < self._many and not self._refusing and (left := until - loop.time()) > 0:
            self._stir.clear()
            if self._free():
                left = min(left, _LINGER_SECONDS)
                until = loop.time() + left
            try:
                async with asyncio.timeout(left):
                    await self._stir.wait()
            except TimeoutError:
                return

    async def _claim(self) -> int:
        slots = min(self._share, self._free() - self._still_stuck())
        if slots <= 0 or self._heart is None or not self._heart.alive:
            return 0
        self._asking, self._claims = True, (self._claims[0] + 1, self._claims[1])
        try:
            found = await self._claimer.claim(slots, most=self._tenant_slots, free=self._tenants_free())
        finally:
            self._asking, self._claims = False, (self._claims[0], self._claims[0])
            if self._refusing:
                self._stir.set()
        self._begin(found)
        return len(found)

    def _tenants_free(self) -> dict[str, int]:
        if not self._tenant_slots:
            return {}
        running = Counter(run.tenant for run in self._runs.values())
        return {tenant: max(0, self._tenant_slots - count) for tenant, count in running.items()}

    def _still_stuck(self) -> int:
        """How many handlers ignore that their job was taken away: each still costs what a slot costs."""
        self._stuck = [run for run in self._stuck if run.stuck]
        return len(self._stuck)

    def _begin(self, found: Sequence[Found]) -> None:
        now = asyncio.get_running_loop().time()
        for kind_name, count in Counter(job.type for job in found).items():
            self._observe("claimed", kind_name, count)
        for job in found:
            earlier = self._runs.get(job.lease.job_id)
            if earlier is not None:
                # Taken back and claimed here again before the heart could tell.
                self._lose(earlier)
            run = self._runs[job.lease.job_id] = Run(
                job, self._handlers.get(job.type), until=now + job.timeout_seconds, ended=self._settler.tell,
                vanished=self._vanished,
            )  # fmt: skip
            if job.cancelled:
                run.cancel()
            if self._refusing:
                # Refused while the claim was being committed.
                run.release()
        self._starting.start([self._runs[job.lease.job_id] for job in found])

    def _settled(self, batch: Sequence[Told], states: States) -> None:
        """*batch* was written; what is missing in *states* had a stale lease."""
        events: Counter[tuple[str, str]] = Counter()
        for told in batch:
            state = states.get((told.lease.job_id, told.lease.lease), "")
            if not state:
                _log.warning("stale lease", job=told.lease.job_id, lease=told.lease.lease)
            events[_EVENTS.get(state, told.kind), told.type] += 1
            self._drop(told.lease)
        for (event, kind_name), count in events.items():
            self._observe(event, kind_name, count)
        self._stir.set()

    def _vanished(self, run: Run) -> None:
        """A slot is free, and nothing is left to be written."""
        if run.event:
            self._observe(run.event, run.job_type, 1)
        self._drop(run.lease)
        self._stir.set()

    def _run_of(self, job: str, lease: int) -> Run | None:
        # The same job may have been claimed here again, under another lease.
        run = self._runs.get(job)
        return run if run is not None and run.lease.lease == lease else None

    def _holds(self, job: str, lease: int) -> bool:
        return self._run_of(job, lease) is not None

    def _drop(self, lease: Lease) -> None:
        if self._holds(lease.job_id, lease.lease):
            del self._runs[lease.job_id]

    def _told(self, told: heart.Told) -> None:
        for kind_name, state in told.taken:
            self._observe("rescued" if state == "ready" else "dead", kind_name, 1)
        for job, lease in told.cancelled.items():
            if run := self._run_of(job, lease):
                run.cancel()
        for job, lease in told.lost.items():
            if run := self._run_of(job, lease):
                self._lose(run)

    def _lose(self, run: Run) -> None:
        run.lose()
        self._stuck.append(run)
        self._vanished(run)

    async def _stopping(self) -> None:
        # One look at all of them now and then costs less than a timer for each.
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            for run in [run for run in self._runs.values() if run.until < now]:
                run.overrun()
            if self._heart is not None and self._heart.lapsed:
                for run in list(self._runs.values()):
                    self._lose(run)
            await asyncio.sleep(_STOP_SECONDS)

    async def _promoting(self) -> None:
        # Apart from claiming: a queue that is never empty must not keep due jobs waiting.
        while not self._refusing:
            promoted = 0
            try:
                promoted = await self._claimer.promote()
            except Unavailable as error:
                _log.warning("cannot look for due jobs", error=error.message)
            if promoted:
                self._stir.set()
            if promoted < PROMOTION_PAGE:
                await asyncio.sleep(drawn(self._timing.poll_seconds))

    async def _looking(self) -> None:
        while not self._refusing:
            wait = self._timing.poll_seconds
            try:
                looked = await self._claimer.look()
                wait = max(wait, looked.next_seconds)
                if looked.lowest:
                    self._stir.set()
                self._hold(not looked.may_run)
            except Unavailable as error:
                _log.warning("cannot look at the queue", error=error.message)
            finally:
                self._looked.set()
            await asyncio.sleep(drawn(wait))

    def _hold(self, held: bool) -> None:
        if held and not self._held:
            _log.error("no job runs: this database may be a restored one; see `holdfast jobs guard`")
        if held != self._held:
            self._held = held
            self._observe("held" if held else "resumed", "", 1)

    async def _reaping(self) -> None:
        while True:
            try:
                seconds, also = self._timing.dead_seconds, self._taken_back
                rescued = await rescue.rescue(self._database, self._service, dead_seconds=seconds, also=also)
                strays = await self._strays.give_back(self._holds, lambda: self._claims)
                for kind_name, state in (*rescued, *strays):
                    self._observe("rescued" if state == "ready" else "dead", kind_name, 1)
            except Unavailable as error:
                _log.warning("cannot look for lost jobs", error=error.message)
            await asyncio.sleep(drawn(self._timing.reap_seconds))

    async def _tidying(self) -> None:
        # Apart from the rescue of jobs: a long reader of the history keeps its days from being made and dropped.
        while True:
            wait = self._timing.reap_seconds
            try:
                await rescue.adopt(self._database, self._service)
                await rescue.rotate(self._database, self._service)
                wait *= _TIDY_EVERY
            except Unavailable as error:
                _log.warning("cannot tidy the queue yet", error=error.message)
            await asyncio.sleep(drawn(wait))

    async def _idle(self, seconds: float) -> None:
        """Wait until nothing runs and no claim is under way, or *seconds* have passed."""
        try:
            async with asyncio.timeout(seconds):
                while self._runs or self._asking:
                    self._stir.clear()
                    await self._stir.wait()
        except TimeoutError:
            _log.info("jobs are still running", jobs=len(self._runs))


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[heart.Told], None], told: heart.Told) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, told)
