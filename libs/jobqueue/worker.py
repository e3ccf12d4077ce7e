"""A worker: claims what it has room for, runs handlers, settles in batches, watches over itself and dead others."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from libs import ids
from libs.db import Database, Listener
from libs.errors import Unavailable
from libs.jobqueue import rescue
from libs.jobqueue.claim import Claimer, Found
from libs.jobqueue.completion import Told
from libs.jobqueue.enqueue import channel
from libs.jobqueue.heart import Heart, Held
from libs.jobqueue.job import Handler, type_name
from libs.jobqueue.run import Run
from libs.jobqueue.settler import Settler
from libs.observability import log

_log = log.get(__name__)

Observe = Callable[[str, str, int], None]
"""Told (event, job type, count): claimed, finished, retried, dead, released, stale, rescued."""

_ROTATE_EVERY = 100  # rounds of the reaper
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
    """Runs one service's jobs in this event loop, at most *concurrency* at once. A libs.process.Part.

    handlers: job type → handler. A job of another type, or one whose payload cannot be read, goes to the dead letters.
    It starts without the database and goes on when it comes back; polling is the path that is always right, wake-ups
    only shorten it.
    """

    def __init__(
        self,
        database: Database,
        service: str,
        handlers: Mapping[type[Any], Handler[Any]],
        *,
        concurrency: int = 8,
        timing: Timing = _USUAL,
        observe: Observe = _ignore,
    ) -> None:
        self.id = ids.new_id()
        self._database, self._service = database, service
        self._handlers = {type_name(kind): (kind, handler) for kind, handler in handlers.items()}
        self._concurrency, self._timing, self._observe = concurrency, timing, observe
        self._runs: dict[str, Run] = {}
        self._stir = asyncio.Event()
        self._refusing = self._asking = False
        self._tasks: list[asyncio.Task[None]] = []
        self._claimer = Claimer(database, service, self.id, wanted=lambda: not self._refusing)
        self._settler = Settler(database, service, timing.flush_seconds, settled=self._settled)
        self._listener = Listener(database, [channel(service)], lambda _channel, _payload: self._stir.set())
        self._heart: Heart | None = None

    async def start(self) -> None:
        """Begin to beat, listen, claim and rescue."""
        self._heart = self._new_heart(asyncio.get_running_loop())
        self._heart.start()
        await self._listener.start()
        loops = (self._claiming(), self._promoting(), self._reaping(), self._settler.run())
        self._tasks = [asyncio.create_task(loop) for loop in loops]

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

    def _new_heart(self, loop: asyncio.AbstractEventLoop) -> Heart:
        return Heart(
            self._database.settings(),
            (self._service, self.id),
            beat_seconds=self._timing.beat_seconds,
            dead_seconds=self._timing.dead_seconds,
            held=lambda: {job: run.lease.lease for job, run in list(self._runs.items())},
            lost=lambda lost: _tell(loop, self._lost, lost),
        )

    async def _claiming(self) -> None:
        failures = 0
        while not self._refusing:
            self._stir.clear()
            try:
                claimed = await self._claim()
                failures = 0
            except Unavailable as error:
                claimed, failures = 0, min(failures + 1, 5)
                _log.warning("cannot claim jobs", error=error.message)
            if not claimed:
                await _soon(self._stir, self._timing.poll_seconds * 2**failures)

    async def _claim(self) -> int:
        slots = self._concurrency - len(self._runs)
        if slots <= 0 or self._heart is None or not self._heart.alive:
            return 0
        self._asking = True
        try:
            found = await self._claimer.claim(slots)
        finally:
            self._asking = False
            if self._refusing:
                self._stir.set()
        for job in found:
            self._begin(job)
        return len(found)

    def _begin(self, found: Found) -> None:
        self._observe("claimed", found.type, 1)
        run = Run(found, self._handlers.get(found.type), ended=self._settler.tell, vanished=self._vanished)
        self._runs[found.lease.job_id] = run
        run.start()
        if self._refusing:
            # Refused while the claim was being committed.
            run.release()

    def _settled(self, told: Told, state: str) -> None:
        """*told* was written, and the job's state is now *state*; "" means that the lease was stale."""
        event = {"": "stale", "finished": told.kind, "dead": "dead"}.get(state, told.kind)
        if event == "stale":
            _log.warning("stale lease", job=told.lease.job_id, lease=told.lease.lease)
        self._observe(event, told.type, 1)
        self._vanished(told.lease.job_id)

    def _vanished(self, job_id: str) -> None:
        """A slot is free."""
        self._runs.pop(job_id, None)
        self._stir.set()

    def _lost(self, lost: Held) -> None:
        for job, lease in lost.items():
            run = self._runs.get(job)
            if run is not None and run.lease.lease == lease:
                run.lose()

    async def _promoting(self) -> None:
        # Apart from claiming: a queue that is never empty must not keep due jobs waiting.
        while not self._refusing:
            try:
                if await self._claimer.promote():
                    self._stir.set()
            except Unavailable as error:
                _log.warning("cannot look for due jobs", error=error.message)
            await asyncio.sleep(_drawn(self._timing.poll_seconds))

    async def _reaping(self) -> None:
        rounds = 0
        while True:
            try:
                for kind, state in await rescue.rescue(
                    self._database, self._service, dead_seconds=self._timing.dead_seconds
                ):
                    self._observe("rescued" if state == "ready" else "dead", kind, 1)
                if rounds % _ROTATE_EVERY == 0:
                    await rescue.rotate(self._database, self._service)
                rounds += 1
            except Unavailable as error:
                _log.warning("cannot look for lost jobs", error=error.message)
            await asyncio.sleep(_drawn(self._timing.reap_seconds))

    async def _idle(self, seconds: float) -> None:
        """Wait until nothing runs and no claim is under way, or *seconds* have passed."""
        try:
            async with asyncio.timeout(seconds):
                while self._runs or self._asking:
                    self._stir.clear()
                    await self._stir.wait()
        except TimeoutError:
            _log.info("jobs are still running", jobs=len(self._runs))


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[Held], None], lost: Held) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, lost)


def _drawn(seconds: float) -> float:
    return random.uniform(seconds / 2, seconds)


async def _soon(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(_drawn(seconds)):
            await event.wait()
    except TimeoutError:
        return
