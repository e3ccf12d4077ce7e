"""A worker process whose handler writes down what it does, on a connection of its own and as lines of a file.

SIGTERM ends it as a deployment does, SIGUSR1 lets go what its handlers hold, SIGUSR2 what is deaf by then. What a job
is to suffer stands in the job; where only its first run shall, it says so in the handler below.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from libs import clock
from libs.db import Database, Limits
from libs.jobqueue import Completed, Handler, Lease, Periodic, Timetable, Timing, Worker, complete, put
from libs.observability import log
from tests.jobs.faults.recorder import NAME, Recorder, say
from tests.support.postgres import Login

QUICK = Timing(poll_seconds=0.2, beat_seconds=0.2, dead_seconds=1.5, reap_seconds=0.2, flush_seconds=0.01)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Step:
    """how: `hold`, until SIGUSR1; `block`, the whole event loop for *seconds*, its first run only; `parent`, put a
    child and complete in one transaction; else take *seconds*.
    """

    how: str = ""
    seconds: float = 0.0
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Deaf:
    """Its first run ignores that its time is over, and ends only by SIGUSR2."""

    timeout_seconds: ClassVar[float] = 0.3


@dataclass(frozen=True, slots=True)
class Tick:
    """Comes every second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One worker process. ahead_seconds: how far its clock is off; ticks: whether it makes periodic jobs too;
    pooler: whether it sends its statements as text, as behind a pooling proxy."""

    name: str
    login: Login
    recorder: Recorder
    lines: Path
    timing: Timing = QUICK
    concurrency: int = 4
    drain_seconds: float = 5.0
    ahead_seconds: float = 0.0
    ticks: bool = False
    pooler: bool = False


class Handlers:
    """Of one process."""

    def __init__(self, setup: Setup, database: Database) -> None:
        self.release, self._deaf = asyncio.Event(), asyncio.Event()
        self._setup, self._database = setup, database
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    async def step(self, job: Step, lease: Lease) -> Completed | None:
        await self._say("begin", lease)
        if job.how == "hold":
            await self._held(lease)
        elif job.how == "block" and lease.lease == 1:
            time.sleep(job.seconds)  # noqa: ASYNC251 - the fault itself
        elif job.how == "parent":
            async with self._database.begin(lease.principal) as tx:
                await put(tx, Step(parent=lease.job_id))
                await self._say("end", lease)
                return await complete(tx, lease)
        elif job.seconds:
            await asyncio.sleep(job.seconds)
        await self._say("end", lease)
        return None

    async def _held(self, lease: Lease) -> None:
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            print(f"cancelled {lease.job_id} {lease.lease}", flush=True)
            raise

    async def deaf(self, job: Deaf, lease: Lease) -> None:
        await self._say("begin", lease)
        heard = self._deaf
        while lease.lease == 1 and not heard.is_set():
            try:
                await heard.wait()
            except asyncio.CancelledError:
                print(f"ignored {lease.job_id} {lease.lease}", flush=True)
        await self._say("end", lease)

    def shout(self) -> None:
        """End what is deaf; what comes later is deaf again."""
        self._deaf.set()
        self._deaf = asyncio.Event()

    async def tick(self, job: Tick, lease: Lease) -> None:
        await self._say("begin", lease)
        await self._say("end", lease)

    async def _say(self, what: str, lease: Lease) -> None:
        while True:
            try:
                self._connection = self._connection or self._setup.recorder.open()
                say(self._connection, what, lease.job_id, lease.lease, self._setup.name)
                break
            except psycopg.Error:
                # The whole server may be away.
                self._connection = None
                await asyncio.sleep(0.05)
        print(f"{what} {lease.job_id} {lease.lease}", flush=True)


def run(setup: Setup) -> None:
    """The whole process."""
    # A child of multiprocessing's fork server: it must not outlive that.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    lines = os.open(setup.lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(lines, 1)
    os.dup2(lines, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the life of the process
    # As a service logs: what structlog does unasked to a traceback holds the event loop for seconds.
    log.configure("files", "json", "info", stream=sys.stdout)
    _put_clock_ahead(setup.ahead_seconds)
    asyncio.run(_serve(setup))
    print("stopped", flush=True)


async def _serve(setup: Setup) -> None:
    login = replace(setup.login, service=NAME.removeprefix("holdfast-") + setup.name)
    database = Database.connect(login, limits=Limits(connections=3, pooler=setup.pooler))
    # The login's service names the connections; the queue is that of files.
    database.service = "files"
    handlers = Handlers(setup, database)
    served: dict[type[Any], Handler[Any]] = {Step: handlers.step, Deaf: handlers.deaf, Tick: handlers.tick}
    worker = Worker(database, "files", served, concurrency=setup.concurrency, timing=setup.timing, observe=_observe)
    tasks = [Periodic(Tick(), every=timedelta(seconds=1), misfire="all")]
    timetable = Timetable(database, "files", tasks if setup.ticks else [])
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, handlers.release.set)
    loop.add_signal_handler(signal.SIGUSR2, handlers.shout)
    await worker.start()
    await timetable.start()
    print(f"started {clock.now().isoformat()}", flush=True)
    await ended.wait()
    timetable.refuse()
    await worker.drain(setup.drain_seconds)
    await worker.stop()
    await timetable.stop()
    await database.stop()


def _observe(event: str, kind: str, count: int) -> None:
    print(f"observed {event} {kind} {count}", flush=True)


def _put_clock_ahead(seconds: float) -> None:
    if not seconds:
        return
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Ahead":
            return cls.fromtimestamp(time.time(), tz)  # type: ignore[arg-type]  # as datetime.now's

    clock.datetime = Ahead  # type: ignore[attr-defined]  # where libs.clock looks it up
