"""What one drill does, phase after phase; each step is in the journal before it is taken."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from libs.clock import Clock
from libs.errors import AppError
from libs.observability import log
from services.backup.adapters.copy import Copy, Servers
from services.backup.adapters.engine import Engine
from services.backup.adapters.place import Place
from services.backup.adapters.questions import Questions
from services.backup.adapters.wal_server import WalServer
from services.backup.domain import verdict
from services.backup.domain.drill import Check, Drill
from services.backup.domain.errors import ChecksFailed, EngineFailed, Interrupted
from services.backup.domain.plan import Plan
from services.backup.domain.verdict import Recovered

_log = log.get(__name__)


@dataclass(slots=True)
class Tools:
    """What every drill uses. drills_dir: copies alone. run_dir: short, for sockets. outside: probe.py's targets."""

    engine: Engine
    servers: Servers
    drills_dir: Path
    run_dir: Path
    key: bytes
    outside: tuple[str, ...]


class Run:
    """One drill under way. keep: makes a new value of the drill durable and visible."""

    def __init__(self, tools: Tools, drill: Drill, plan: Plan, *, keep: Callable[[Drill], None], now: Clock) -> None:
        self._tools = tools
        self._drill = drill
        self._plan = plan
        self._keep = keep
        self._now = now
        self._place = Place.of(drill.id, drills=tools.drills_dir, run=tools.run_dir)

    async def to_the_end(self) -> Drill:
        """The ended drill, not kept yet: whatever happens, its copy is removed and the first fault is told."""
        try:
            async with AsyncExitStack() as opened:
                await self._phases(opened)
        except AppError as error:
            self._failed(error)
        except asyncio.CancelledError:
            self._failed(Interrupted("The service was stopped."))
        except Exception as error:
            _log.exception("drill_failed", drill=self._drill.id)
            self._failed(EngineFailed(f"Unexpected fault: {type(error).__name__}."))
        await self._teardown()
        return self._drill.ended(now=self._now())

    async def _phases(self, opened: AsyncExitStack) -> None:
        tools, place, plan = self._tools, self._place, self._plan
        self._enter("restore", isolation=tools.servers.isolation.description)
        place.make()
        await tools.engine.restore(plan.label, target=plan.stop_at, data_dir=place.data, work_dir=place.work)
        self._enter("replay")
        wal = WalServer(tools.engine, place)
        opened.push_async_callback(wal.stop)
        await wal.start()
        copy = Copy(tools.servers, place)
        opened.push_async_callback(copy.stop)
        self._update(pid=await copy.start())
        try:
            await copy.promoted(lambda: self._enter("promote"))
        except EngineFailed as error:
            # The server only knows that it got no WAL; the fetcher knows why.
            raise wal.fault or error from error
        self._enter("check")
        await self._check(Questions(copy, tools.servers.isolation, key=tools.key, outside=tools.outside))

    async def _check(self, questions: Questions) -> None:
        seen = await questions.recovered()
        checks = await questions.checks(self._plan, seen)
        now = self._now()
        self._update(
            checks=tuple(checks),
            proof=verdict.proof(self._plan, seen),
            rpo_seconds=self._rpo(seen),
            rto_seconds=(now - self._drill.created_at).total_seconds(),
        )
        wrong = [check.check for check in checks if not check.ok]
        if wrong:
            raise ChecksFailed(f"The copy failed {', '.join(wrong)}.", checks=", ".join(wrong))

    def _rpo(self, seen: Recovered) -> float | None:
        """Seconds of data lost had production ended at the target, or at the request for the end of the archive."""
        if not seen.beats:
            return None
        loss = self._plan.stop_at or self._drill.created_at
        return max(0.0, (loss - seen.beats[-1].created_at).total_seconds())

    async def _teardown(self) -> None:
        self._enter("teardown")
        removed = await asyncio.to_thread(self._place.remove)
        detail = "directories, sockets and processes are gone" if removed else "something is left: see the log"
        self._update(checks=(*self._drill.checks, Check("removed", removed, 3, detail)))
        if not removed:
            self._failed(EngineFailed("The copy could not be removed.", command="teardown"))

    def _enter(self, phase: str, *, isolation: str = "") -> None:
        drill = self._drill.entered(phase, now=self._now())
        self._drill = replace(drill, isolation=isolation or drill.isolation)
        self._keep(self._drill)

    def _update(self, **changes: object) -> None:
        self._drill = replace(self._drill, **changes)  # type: ignore[arg-type]  # names are the dataclass' own
        self._keep(self._drill)

    def _failed(self, error: AppError) -> None:
        _log.error("drill_failed", drill=self._drill.id, reason=error.reason, fault=error.message)
        self._drill = self._drill.failed(error, now=self._now())
        self._keep(self._drill)
