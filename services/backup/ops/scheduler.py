"""Backups, expiry and verification that nobody has to ask for; it needs neither the job queue nor any other service.

What is due follows from the repository itself (services.backup.domain.schedule). Only the last attempt of each task is
kept on disk: it tells when to try again, and when expiry and verification were last done.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from libs import process
from libs.clock import Clock
from libs.errors import AppError, Kind
from libs.observability import log
from libs.principal import System
from services.backup.adapters.engine import Engine
from services.backup.adapters.journal import Journal
from services.backup.domain import schedule
from services.backup.domain.condition import Name
from services.backup.domain.errors import BackupBusy, EngineAway, EngineFailed
from services.backup.domain.progress import State
from services.backup.domain.repository import BackupType, Repository
from services.backup.domain.schedule import Attempt, Due, Rules, Situation, Task
from services.backup.ops.backups import Backups
from services.backup.ops.conditions import Conditions
from services.backup.ops.keeping_figures import KeepingFigures
from services.backup.ops.upkeep import Upkeep
from services.backup.ops.watch import Watch

_log = log.get(__name__)
_WHO = System("backup")
_LOOK_SECONDS = 30.0
_FAILING = {
    Task.FULL: Name.BACKUP_FAILING,
    Task.DIFFERENTIAL: Name.BACKUP_FAILING,
    Task.EXPIRE: Name.EXPIRE_FAILING,
    Task.VERIFY: Name.VERIFY_FAILING,
}
_TYPES = {Task.FULL: BackupType.FULL, Task.DIFFERENTIAL: BackupType.DIFFERENTIAL}


class Scheduler:
    """A Part. enabled: False shows what would be done and does only what is asked for. seed: of the jitter."""

    def __init__(
        self,
        engine: Engine,
        backups: Backups,
        upkeep: Upkeep,
        watch: Watch,
        journal: Journal[Attempt],
        conditions: Conditions,
        figures: KeepingFigures,
        *,
        rules: Rules,
        seed: str,
        enabled: bool,
        now: Clock,
    ) -> None:
        self._engine = engine
        self._backups = backups
        self._upkeep = upkeep
        self._watch = watch
        self._journal = journal
        self._conditions = conditions
        self._figures = figures
        self._rules = rules
        self._seed = seed
        self._enabled = enabled
        self._now = now
        self._began = time.monotonic()
        kept = journal.load()
        self.attempts = {task: kept[task.value] for task in Task if task.value in kept}
        self._asked: list[Task] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        for task, attempt in self.attempts.items():
            figures.attempted(task, attempt, count=False)
        watch.urgent = self._wake.set

    @property
    def enabled(self) -> bool:
        """Whether anything is begun by itself."""
        return self._enabled

    def ask(self, task: Task) -> None:
        """Have *task* done as soon as nothing else runs."""
        if task not in self._asked:
            self._asked.append(task)
        self._wake.set()

    async def agenda(self) -> Sequence[Due]:
        """What comes next, the earliest first; nothing while the repository cannot be read."""
        try:
            held = await self._engine.inspect()
        except AppError:
            return []
        return self._agenda(held)

    async def look(self) -> Task | None:
        """Do what is asked for or most urgently due, to its end; what it was, None for nothing."""
        try:
            held = await self._engine.inspect()
        except AppError:
            return None  # the watch tells of it
        if self._enabled and await self._follow(held):
            held = await self._engine.inspect()
        self._note(held)
        found = self._agenda(held)
        for one in found:
            self._figures.due.labels(one.task.value).set(one.at.timestamp())
        due = self._asked_for() or (schedule.due_now(found, self._now()) if self._enabled else None)
        if due is None or not await self._done(due):
            return None
        return due.task

    async def start(self) -> None:
        """Begin to look."""
        self._task = process.spawn(self._loop(), name="scheduler")

    def refuse(self) -> None:
        """Begin no more."""
        self._enabled = False
        self._asked = []

    async def drain(self, seconds: float) -> None:
        """Nothing to hand over: a running backup is the keeper's, and expiry may be broken off anywhere."""

    async def stop(self) -> None:
        """End the loop."""
        await process.cancel(self._task)

    def _agenda(self, held: Repository) -> list[Due]:
        return schedule.agenda(self._rules, self._situation(held))

    def _situation(self, held: Repository) -> Situation:
        since = self._now() - timedelta(seconds=time.monotonic() - self._began)
        urgent = ("", "")
        cut_off = self._watch.open_in(held)
        if cut_off:
            first = cut_off[0].first
            urgent = (f"rpo {first}", f"WAL segment {first} is lost, and a full backup makes now restorable again")
        return Situation(held, self.attempts, self._now(), since, urgent, self._seed)

    def _asked_for(self) -> Due | None:
        if not self._asked:
            return None
        return Due(self._asked[0], self._now(), "asked", "an operator asked for it")

    async def _follow(self, held: Repository) -> bool:
        """Whether the stanza was made or upgraded; a new installation makes its own first."""
        settled = time.monotonic() - self._began >= self._rules.first_full.total_seconds()
        if not held.stanza and not settled:
            return False
        try:
            done = await self._upkeep.follow(held, taken=self._backups.taken())
        except BackupBusy:
            return False
        except AppError as error:
            remedy = "The server and the repository's stanza do not fit: follow what it says."
            self._conditions.tell(Name.STANZA_FAILING, error.message, remedy)
            return False
        self._conditions.clear(Name.STANZA_FAILING)
        return done

    async def _done(self, due: Due) -> bool:
        """Whether it was tried, well or not; False when others were busy or it turned out to be done already."""
        again, fault = False, ""
        try:
            tried = await self._try(due)
        except BackupBusy as busy:
            _log.info("task_waits", task=due.task.value, holder=busy.facts.get("holder", ""))
            return False
        except AppError as error:
            tried, again, fault = True, error.kind is Kind.UNAVAILABLE, error.message
        if self._asked[:1] == [due.task]:
            self._asked.pop(0)
        if tried:
            self._keep(due, again=again, fault=fault)
        return tried

    async def _try(self, due: Due) -> bool:
        _log.info("task_begins", task=due.task.value, slot=due.slot, why=due.why)
        if due.task is Task.EXPIRE:
            await self._upkeep.expire()
            return True
        if due.task is Task.VERIFY:
            await self._upkeep.verify()
            return True
        ended = await self._backups.take(_WHO, _TYPES[due.task], needed=lambda held: self._still(due, held))
        if ended is None:
            return False
        if ended.state is State.FAILED and ended.error is not None:
            kind = EngineAway if ended.error.kind is Kind.UNAVAILABLE else EngineFailed
            raise kind(ended.error.message, command="backup")
        return True

    def _still(self, due: Due, held: Repository) -> bool:
        """Whether *due* is so when nobody else can begin: another host may have been first."""
        if due.slot == "asked":
            return True
        same = [one for one in self._agenda(held) if (one.task, one.slot) == (due.task, due.slot)]
        return bool(same) and same[0].at <= self._now()

    def _note(self, held: Repository) -> None:
        """What the repository shows to be over, whoever ended it."""
        fulls = held.fulls()
        if not fulls:
            return
        self._conditions.clear(Name.REPOSITORY_EMPTIED)
        failed = {task: one.ended_at for task, one in self.attempts.items() if task in _TYPES and not one.ok}
        # Only a full backup makes up for one that failed.
        since = {
            Task.FULL: fulls[-1].ended_at,
            Task.DIFFERENTIAL: max(one.ended_at for one in held.backups if one.good),
        }
        if failed and all(at < since[task] for task, at in failed.items()):
            self._conditions.clear(Name.BACKUP_FAILING)

    def _keep(self, due: Due, *, again: bool, fault: str) -> None:
        attempt = schedule.tried(self.attempts.get(due.task), due, now=self._now(), again=again, fault=fault)
        self.attempts[due.task] = attempt
        self._journal.keep(due.task.value, attempt.to_json())
        self._figures.attempted(due.task, attempt)
        if attempt.ok:
            full = self.attempts.get(Task.FULL)
            if due.task is not Task.DIFFERENTIAL or full is None or full.ok:
                self._conditions.clear(_FAILING[due.task])
            return
        _log.error("task_failed", task=due.task.value, failures=attempt.failures, again=again, fault=fault)
        outlook = "It is tried again by itself." if again else "It is not tried again soon: a person has to look at it."
        self._conditions.tell(_FAILING[due.task], f"{due.task.value}: {fault}", outlook)

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            if await self._worked():
                continue
            # By a clock that nobody sets: a jump of the wall clock neither stalls nor hurries the next look.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()

    async def _worked(self) -> bool:
        try:
            return await self.look() is not None
        except OSError as error:
            _log.error("scheduler_failed", fault=error.strerror)
        except AppError as error:
            _log.error("scheduler_failed", fault=error.message)
        return False
