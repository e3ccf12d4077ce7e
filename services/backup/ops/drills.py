"""Starting, showing and cleaning up after drills; services.backup.ops.run is what a drill does."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from libs.clock import Clock
from libs.errors import AppError
from libs.observability import log
from libs.principal import Principal
from services.backup.adapters import remains
from services.backup.adapters.engine import Engine
from services.backup.adapters.journal import Journal
from services.backup.adapters.lock import EngineLock
from services.backup.adapters.place import REMEDY, Place
from services.backup.domain import forecast
from services.backup.domain import plan as planning
from services.backup.domain.breach import Breach, blocking
from services.backup.domain.drill import PHASES, Drill, Kind, phases
from services.backup.domain.errors import (
    DiskShort,
    DrillEnded,
    DrillNotFound,
    Interrupted,
    TargetBeforeFirstBackup,
    TargetNotArchived,
)
from services.backup.domain.plan import Plan
from services.backup.domain.plan_lsn import plan_lsn
from services.backup.domain.progress import State
from services.backup.domain.repository import Repository
from services.backup.domain.timetable import newest
from services.backup.ops.attester import Attester
from services.backup.ops.board import Board
from services.backup.ops.drill_figures import DrillFigures
from services.backup.ops.heartbeats import Heartbeats
from services.backup.ops.record import Recorder
from services.backup.ops.run import Run, Tools

_log = log.get(__name__)
_OVER = (State.SUCCEEDED, State.FAILED)
_DRAWS = 20


class Drills:
    """One drill at a time on this machine. label_of: our id of a backup, or a label, to the engine's label.

    breaches: holes in the archive that are known; nothing is restored across one.
    """

    def __init__(
        self,
        tools: Tools,
        journal: Journal[Drill],
        lock: Callable[[], EngineLock],
        heartbeats: Heartbeats,
        recorder: Recorder,
        label_of: Callable[[str], str],
        figures: DrillFigures,
        attester: Attester,
        *,
        now: Clock,
        ids: Callable[[], str],
    ) -> None:
        self._tools = tools
        self._journal = journal
        self._lock = lock
        self._heartbeats = heartbeats
        self._recorder = recorder
        self._label_of = label_of
        self._figures = figures
        self._attester = attester
        self._now = now
        self._ids = ids
        self._board: Board[Drill] = Board()
        self._task: asyncio.Task[None] | None = None
        self._run: Run | None = None
        self.breaches: Callable[[], Sequence[Breach]] = tuple

    @property
    def _engine(self) -> Engine:
        return self._tools.engine

    async def create(
        self,
        who: Principal,
        *,
        kind: Kind = Kind.CHOSEN,
        target: datetime | None = None,
        lsn: str = "",
        backup: str = "",
        full: bool = False,
        scheduled: bool = False,
    ) -> Drill:
        """Start one and return it. Everything that can be refused is refused here, before anything is touched.

        target or lsn, backup: of a CHOSEN one; the other kinds choose for themselves. full: DEEP always is.
        Raises BackupBusy, NoBackup, BackupNotFound, TargetBeforeFirstBackup, TargetNotArchived, DiskShort.
        """
        lock = self._lock()
        made = self._ids()
        lock.take(f"the choice of a backup for drill {made}")
        try:
            wanted = Drill(made, self._now(), target, backup, kind=kind, full=full or kind is Kind.DEEP)
            wanted = replace(wanted, phases=phases(full=wanted.full))
            began = replace(wanted, scheduled=scheduled, target_lsn=lsn).entered("select", now=self._now())
            chosen = await self._select(began)
            drill = replace(began.planned(chosen), predicted_seconds=self._foretold(chosen))
            run = Run(self._tools, drill, chosen, keep=self._keep, now=self._now)
            self._begin(drill)
            lock.tell(f"drill {made}")
        except BaseException:
            lock.free()
            raise
        self._run, self._task = run, asyncio.create_task(self._follow(run, lock), name="drill")
        await self._recorder.audit(who, "drill.created", drill=made, backup=chosen.label)
        return drill

    async def cancel(self, who: Principal, id: str) -> Drill:
        """Have a running drill fail and remove its copy; the drill as it is now. Raises DrillNotFound, DrillEnded."""
        drill = self.get(id)
        if drill.state in _OVER:
            raise DrillEnded(f"drills/{id} has ended: there is nothing to cancel.", drill=id)
        if self._run and self._run.id == id and self._task and self._run.cancel(self._task):
            await self._recorder.audit(who, "drill.cancelled", drill=id, backup=drill.label)
        return self.get(id)

    def get(self, id: str) -> Drill:
        """By id. Raises DrillNotFound."""
        drill = self._board.get(id)
        if drill is None:
            raise DrillNotFound(f"There is no drill {id}: `holdfast drill list` shows each.", drill=id)
        return drill

    def list(self) -> list[Drill]:
        """Newest first."""
        return self._board.all()[::-1]

    def newest(self, kind: Kind) -> Drill | None:
        """The drill of this kind that was begun last, whatever became of it."""
        return newest(self._board.all(), kind, now=self._now())

    async def watch(self, id: str) -> AsyncIterator[Drill]:
        """The drill now and after each change, until it has ended. Raises DrillNotFound."""
        self.get(id)
        async for drill in self._board.watch(id):
            yield drill
            if drill.state in _OVER:
                return

    def recover(self) -> None:
        """Read the journal, clean up after whatever an ended process left, and say so. The caller holds the lock."""
        drills = self._journal.load()
        for id, drill in drills.items():
            ended = drill if drill.state in _OVER else self._clean(drill)
            self._board.seed(id, ended)
            self._figures.known(ended)
        try:
            for place in self._left(drills.values):
                if not place.gone() and not place.remove():
                    _log.warning("leftover_removed", directory=place.work.name)
        except OSError as fault:
            _log.error("leftovers_unknown", fault=str(fault), remedy="Let the service read its directory of copies.")

    def leftovers(self) -> Sequence[str]:
        """What stands of copies whose drill has ended, in one sentence with what to do; [] for nothing. Blocks."""
        try:
            found = [str(place.work) for place in self._left(self._board.all) if not place.gone()]
        except OSError as fault:
            return [f"Whether a copy is left cannot be told: {fault}. Let the service read its directory of copies."]
        if not found:
            return []
        many = f"{len(found)} copies" if len(found) > 1 else "a copy"
        return [f"Something is left of {many}, {found[0]} first: production's data lies there, or is open. {REMEDY}"]

    async def attest(self) -> None:
        """Evidence of every ended drill that has none yet: of those found dead, and of those older than evidence."""
        for drill in self._board.all():
            if drill.state in _OVER:
                await self._attester.drill(drill)

    async def refused(self, kind: Kind, error: AppError) -> None:
        """Evidence that a drill of the timetable could not begin."""
        await self._attester.refused(kind, error, at=self._now())

    async def settle(self, seconds: float) -> None:
        """Let a running drill end within *seconds*, then end it; its copy is removed either way."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _select(self, drill: Drill) -> Plan:
        repository = await self._engine.inspect()
        if drill.kind is Kind.DEEP:
            chosen = await self._any_moment(repository)
        else:
            chosen = await self._asked_for(repository, drill)
        self._unbroken(repository, chosen)
        free = shutil.disk_usage(self._tools.drills_dir).free
        planning.room(free, chosen.database_bytes, spare_bytes=self._tools.spare_bytes)
        return chosen

    async def _asked_for(self, repository: Repository, drill: Drill) -> Plan:
        wanted = (
            planning.named(repository, self._label_of(drill.backup)) if drill.backup and repository.backups else None
        )
        if drill.target_lsn:
            beats = await self._heartbeats.around_lsn(drill.target_lsn)
            return plan_lsn(repository, beats, lsn=drill.target_lsn, wanted=wanted)
        beats = await self._heartbeats.around(drill.target)
        return planning.plan(repository, beats, target=drill.target, wanted=wanted, now=self._now())

    async def _any_moment(self, repository: Repository) -> Plan:
        """A plan to the middle between two heartbeats, of any age that the repository holds.

        A draw can fall before the first heartbeat or into the newest, unarchived gap: then another one is made.
        """
        recent = await self._heartbeats.around(None)
        for _ in range(_DRAWS):
            drawn = planning.some_moment(repository, recent, self._tools.draw())
            beats = await self._heartbeats.around(drawn)
            middle = planning.between(beats)
            try:
                if middle is not None:
                    chosen = planning.plan(repository, beats, target=middle, wanted=None, now=self._now())
                    self._unbroken(repository, chosen)
                    return chosen
            except (TargetBeforeFirstBackup, TargetNotArchived):
                continue
        raise TargetNotArchived("No moment between two archived heartbeats was found after the oldest backup.")

    def _unbroken(self, repository: Repository, chosen: Plan) -> None:
        """Raises TargetNotArchived when WAL on the way is known to be lost. The end of the archive is always tried."""
        target = chosen.stop_at or chosen.ended_before
        lost = target and blocking(self.breaches(), planning.named(repository, chosen.label), target)
        if not lost or target is None:
            return
        begin = planning.told(lost.lost_from) if lost.lost_from else "the oldest backup"
        end = planning.told(lost.lost_until) if lost.lost_until else "now"
        raise TargetNotArchived(
            f"WAL segment {lost.first} is lost: {chosen.label} cannot be restored to {planning.told(target)}, nor"
            f" anything between {begin} and {end}. Choose a moment outside of that, or a later backup.",
            target=planning.told(target),
            backup=chosen.label,
            segment=lost.first,
            begin=begin,
            end=end,
        )

    def _foretold(self, chosen: Plan) -> float | None:
        before = self._board.all()
        return forecast.rto_seconds(before, database_bytes=chosen.database_bytes, wal_segments=chosen.wal_segments)

    def _left(self, known: Callable[[], Iterable[Drill]]) -> Sequence[Place]:
        """Where something may be left: directories, and what failed teardowns left; not of drills under way.

        known: asked after the directories, which are made when their drill is known.
        """
        ids = {path.name for path in self._tools.drills_dir.iterdir() if path.is_dir()}
        drills = list(known())
        ids |= {drill.id for drill in drills if drill.phase("teardown").state is State.FAILED}
        ids -= {drill.id for drill in drills if drill.state not in _OVER}
        return [Place.of(id, drills=self._tools.drills_dir, run=self._tools.run_dir) for id in sorted(ids)]

    def _clean(self, drill: Drill) -> Drill:
        running = [name for name in PHASES if drill.phase(name).state is State.RUNNING]
        phase = running[0] if running else "select"
        _log.warning("drill_interrupted", drill=drill.id, phase=phase)
        gone = Interrupted(f"The service ended while the drill was in phase {phase}.", phase=phase)
        failed = drill.failed(gone, now=self._now()).entered("teardown", now=self._now())
        place = Place.of(drill.id, drills=self._tools.drills_dir, run=self._tools.run_dir)
        found = remains.of(place)
        failed = replace(failed, system_id=found.system_id, log_digest=found.log_digest)
        left = place.remove()
        ended = failed.left(now=self._now(), well=not left).ended(now=self._now())
        self._journal.keep(ended.id, ended.to_json())
        return ended

    def _begin(self, drill: Drill) -> None:
        try:
            self._journal.save(drill.id, drill.to_json())
        except OSError as error:
            raise DiskShort(
                f"No drill was begun, for its journal cannot be written: {error.strerror}. Make room in"
                f" {self._journal.directory}.",
                fault=error.strerror,
            ) from error
        self._board.put(drill.id, drill)

    def _keep(self, drill: Drill) -> None:
        """A disk that fills while a drill runs must not keep it from removing its copy: that is what makes room."""
        self._journal.keep(drill.id, drill.to_json())
        self._board.put(drill.id, drill)

    async def _follow(self, run: Run, lock: EngineLock) -> None:
        try:
            ended = await run.to_the_end()
        finally:
            self._run = None  # the next drill may begin from here on
            lock.free()
        try:
            self._journal.keep(ended.id, ended.to_json())
            await self._attester.drill(ended)
        except Exception:
            _log.exception("drill_not_attested", drill=ended.id)
        finally:
            self._board.put(ended.id, ended)  # whatever happens: somebody may watch it
        self._figures.ended(ended)
        await self._recorder.mirror(ended)
