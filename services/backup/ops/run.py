"""What one drill does, phase after phase; each step is in the journal before it is taken."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from libs.clock import Clock
from libs.errors import AppError
from libs.observability import log
from services.backup.adapters import remains, rescue, scrub, smoke, structure
from services.backup.adapters.copy import Copy, Servers
from services.backup.adapters.engine import Engine
from services.backup.adapters.ladder import Ladder
from services.backup.adapters.objects import OBJECTS, Objects, Store
from services.backup.adapters.opening import FILE, Opening
from services.backup.adapters.place import Place
from services.backup.adapters.questions import Questions
from services.backup.adapters.rescue import Rescue
from services.backup.adapters.rung import rung
from services.backup.adapters.smoke import Smoke
from services.backup.adapters.wal_server import WalServer
from services.backup.domain import verdict
from services.backup.domain.drill import Check, Drill, Kind, not_made
from services.backup.domain.errors import ChecksFailed, DrillCancelled, EngineFailed, Interrupted
from services.backup.domain.object_rpo import LAG, ROWS
from services.backup.domain.plan import Plan
from services.backup.domain.verdict import Recovered

_log = log.get(__name__)


@dataclass(slots=True)
class Tools:
    """What every drill uses. drills_dir: copies alone. run_dir: short, for sockets. outside: probe.py's targets.

    spare_bytes: what a copy has to leave free where drills_dir is. store: of the file bytes. draw: 0 to 1, for samples.
    rescue: the opened escrow that deep drills restore with, or the check that says why there is none. smoke: where full
    drills find the canary.
    """

    engine: Engine
    servers: Servers
    drills_dir: Path
    run_dir: Path
    key: bytes
    outside: tuple[str, ...]
    spare_bytes: int
    store: Store
    draw: Callable[[], float] = random.SystemRandom().random
    rescue: Callable[[], Rescue | Check] = rescue.none
    smoke: Smoke = smoke.NOWHERE


class Run:
    """One drill under way. keep: makes a new value of the drill durable and visible."""

    def __init__(self, tools: Tools, drill: Drill, plan: Plan, *, keep: Callable[[Drill], None], now: Clock) -> None:
        self._rescue = tools.rescue() if drill.kind is Kind.DEEP else None
        if isinstance(self._rescue, Rescue):
            tools = replace(tools, engine=self._rescue.engine, key=self._rescue.key)
        self._tools = tools
        self._drill = drill
        self._plan = plan
        self._keep = keep
        self._now = now
        self._place = Place.of(drill.id, drills=tools.drills_dir, run=tools.run_dir)

    @property
    def id(self) -> str:
        """The drill's."""
        return self._drill.id

    async def to_the_end(self) -> Drill:
        """The ended drill, not kept yet: whatever happens, its copy is removed and the first fault is told."""
        try:
            async with AsyncExitStack() as opened:
                try:
                    await self._phases(opened)
                except AppError as error:
                    self._failed(error)  # before anything is closed: a cancel meanwhile must not hide it
        except asyncio.CancelledError:
            self._failed(Interrupted("The service was stopped."))
        except Exception as error:
            self._failed(self._unforeseen(error))
        try:
            await self._teardown()
        except Exception as error:
            fault = self._unforeseen(error)
            self._add(Check("removed", False, 3, fault.message))  # told also where an earlier fault stays the drill's
            self._failed(fault)
        return self._drill.ended(now=self._now())

    def cancel(self, task: "asyncio.Task[None]") -> bool:
        """Let the drill fail at once; *task* runs to_the_end. False when it has failed or is cleaned up already."""
        if self._drill.error or self._drill.phase("teardown").started_at:
            return False
        wrong = self._wrong()
        self._failed(
            ChecksFailed(f"The copy failed {wrong}; then somebody cancelled the drill.", checks=wrong)
            if wrong
            else DrillCancelled("Somebody cancelled it: holdfast drill cancel.")
        )
        if self._drill.phase("restore").started_at:  # a task that has not begun would end without its clean-up
            task.cancel()
        return True

    async def _phases(self, opened: AsyncExitStack) -> None:
        tools, place, plan = self._tools, self._place, self._plan
        if self._drill.error:
            return
        self._enter("restore", isolation=tools.servers.isolation.description)
        place.make()
        if isinstance(self._rescue, Rescue):
            await self._rescue.prove(plan.label)
        await tools.engine.restore(
            plan.label, target=plan.stop_at, lsn=plan.stop_lsn, data_dir=place.data, work_dir=place.work
        )
        copy = await self._recover(opened)
        self._enter("check")
        await self._check(copy)
        if self._drill.full:
            self._enter("smoke")
            self._add(*await self._smoke(copy))
        self._enter("scrub")
        await self._scrub(copy)
        self._judge()

    async def _recover(self, opened: AsyncExitStack) -> Copy:
        """The copy, promoted."""
        self._enter("replay")
        wal = WalServer(self._tools.engine, self._place)
        opened.push_async_callback(wal.stop)
        await wal.start()
        copy = Copy(self._tools.servers, self._place)
        opened.push_async_callback(copy.stop)
        self._update(pid=await copy.start())
        try:
            await copy.promoted(lambda: self._enter("promote"))
        except EngineFailed as error:
            raise wal.explained(error) from error
        self._update(wal_segments=wal.fetched)
        return copy

    async def _check(self, copy: Copy) -> None:
        """Proof and data first: with them a restore could serve, so they end the RTO. Structure comes after."""
        tools, plan = self._tools, self._plan
        questions = Questions(copy, tools.servers.isolation, key=tools.key, outside=tools.outside)
        seen = await questions.recovered()
        newest = seen.beats[-1].created_at if seen.beats else None
        self._add(*await questions.checks(plan, seen), *await Ladder(copy, tools.key).checks(plan, newest))
        objects = Objects(copy, tools.store, draw=tools.draw)
        self._add(
            await rung(ROWS, objects.of_rows),
            await rung(OBJECTS, lambda: objects.of_objects(newest)),
            await rung(LAG, lambda: objects.deletes(newest, self._now())),
        )
        self._update(
            proof=verdict.proof(plan, seen),
            rpo_seconds=self._rpo(seen),
            rto_seconds=(self._now() - self._drill.created_at).total_seconds(),
        )
        if self._rescue is not None:
            done = self._drill.checks
            self._add(self._rescue.check(done) if isinstance(self._rescue, Rescue) else self._rescue)
            self._add(await self._open_file(copy, self._rescue))
        strict = self._drill.full
        self._add(await rung("amcheck", lambda: structure.amcheck(tools.servers, copy, strict=strict)))

    async def _open_file(self, copy: Copy, rescue: Rescue | Check) -> Check:
        """Whether one restored file opens with its user's key, by the roots that the escrow holds and no others."""
        if isinstance(rescue, Check):
            return not_made(FILE, rescue.detail)
        opening = Opening(copy, self._tools.store, rescue.file_roots, draw=self._tools.draw)
        return await rung(FILE, opening.check)

    async def _smoke(self, copy: Copy) -> list[Check]:
        """What the real services, with this installation's secrets, say of the canary in the copy."""
        tools, proof = self._tools, self._drill.proof
        newest = proof.heartbeat_at if proof else None
        return await smoke.smoke(copy, tools.smoke, tools.store, tools.servers.database, newest)

    async def _scrub(self, copy: Copy) -> None:
        """Page checksums come last of all checks, since the server has to be down for them."""
        servers = self._tools.servers
        self._add(await rung("scrubbed", lambda: scrub.scrub(copy, servers.superuser)))
        if self._drill.full:
            await copy.shut_down()
            self._add(await rung("page_checksums", lambda: structure.checksums(servers.binaries, self._place)))

    def _judge(self) -> None:
        if wrong := self._wrong():
            raise ChecksFailed(f"The copy failed {wrong}.", checks=wrong)

    def _wrong(self) -> str:
        """The checks that were answered wrongly."""
        return ", ".join(check.check for check in self._drill.checks if check.failed)

    def _rpo(self, seen: Recovered) -> float | None:
        """Seconds of data lost had production ended at the target, or at the request for the end of the archive.

        An LSN has no time, but it precedes the heartbeat behind it: then at most this is lost.
        """
        if not seen.beats:
            return None
        loss = self._plan.stop_at or self._plan.ended_before or self._drill.created_at
        return max(0.0, (loss - seen.beats[-1].created_at).total_seconds())

    async def _teardown(self) -> None:
        self._enter("teardown")
        found = await asyncio.to_thread(remains.of, self._place)
        self._update(system_id=found.system_id, log_digest=found.log_digest)
        left = await asyncio.to_thread(self._place.remove)
        detail = f"left: {left}" if left else "directories, sockets and processes are gone"
        self._add(Check("removed", not left, 3, detail))
        if left:
            self._failed(EngineFailed("The copy could not be removed.", command="teardown"))

    def _enter(self, phase: str, *, isolation: str = "") -> None:
        drill = self._drill.entered(phase, now=self._now())
        self._drill = replace(drill, isolation=isolation or drill.isolation)
        self._keep(self._drill)

    def _add(self, *checks: Check) -> None:
        self._update(checks=(*self._drill.checks, *checks))

    def _update(self, **changes: object) -> None:
        self._drill = replace(self._drill, **changes)  # type: ignore[arg-type]  # names are the dataclass' own
        self._keep(self._drill)

    def _failed(self, error: AppError) -> None:
        if self._drill.error is None:
            _log.error("drill_failed", drill=self._drill.id, reason=error.reason, fault=error.message)
        self._drill = self._drill.failed(error, now=self._now())
        self._keep(self._drill)

    def _unforeseen(self, error: Exception) -> AppError:
        if isinstance(error, AppError):
            return error
        _log.exception("drill_broke", drill=self._drill.id)
        what = str(error) if isinstance(error, OSError) else type(error).__name__
        return EngineFailed(f"Unexpected fault: {what}.")
