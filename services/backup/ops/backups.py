"""Taking and showing backups."""

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from libs.clock import Clock
from libs.errors import AppError
from libs.observability import log
from libs.principal import Principal
from services.backup.adapters.engine import Engine
from services.backup.adapters.exclusive import Exclusive
from services.backup.adapters.journal import Journal
from services.backup.domain.backup import Backup
from services.backup.domain.errors import BackupNotFound, EngineAway, EngineFailed, Interrupted
from services.backup.domain.progress import State
from services.backup.domain.repository import BackupType, Repository
from services.backup.ops.attester import Attester
from services.backup.ops.board import Board
from services.backup.ops.record import Recorder

_log = log.get(__name__)
_OVER = (State.SUCCEEDED, State.FAILED)


class Backups:
    """One backup at a time, on whatever host; each is followed by its journal and the board."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal[Backup],
        lock: Callable[[], Exclusive],
        recorder: Recorder,
        attester: Attester,
        *,
        now: Clock,
        ids: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._lock = lock
        self._recorder = recorder
        self._attester = attester
        self._now = now
        self._ids = ids
        self._board: Board[Backup] = Board()
        self._task: asyncio.Task[None] | None = None

    async def create(self, who: Principal, type: BackupType | None) -> Backup:
        """Start one and return it running. type: None takes a full one first and incremental ones after it.

        Raises BackupBusy while a backup or drill runs, EngineAway soon when the store does not answer.
        """
        await self._engine.probe()
        made = await self._begin(type, needed=_always)
        assert made is not None
        await self._recorder.audit(who, "backup.created", backup=made.id, type=made.type.value)
        return made

    async def take(self, who: Principal, type: BackupType, *, needed: Callable[[Repository], bool]) -> Backup | None:
        """Take one to its end, unless it is not *needed* any more once everybody else is shut out: then None.

        Raises as create does.
        """
        made = await self._begin(type, needed=needed)
        if made is None:
            return None
        await self._recorder.audit(who, "backup.created", backup=made.id, type=made.type.value)
        *_, ended = [one async for one in self.watch(made.id)]
        return ended

    async def _begin(self, type: BackupType | None, *, needed: Callable[[Repository], bool]) -> Backup | None:
        lock, made = self._lock(), self._ids()
        await lock.take(f"backup {made}")
        try:
            held = await self._engine.inspect()
            if not needed(held):
                await lock.free()
                return None
            chosen = type or (BackupType.INCREMENTAL if held.fulls() else BackupType.FULL)
            backup = Backup(made, chosen, State.RUNNING, self._now())
            self._keep(backup)
        except BaseException:
            await lock.free()
            raise
        self._task = asyncio.create_task(self._run(backup, lock), name="backup")
        return backup

    async def get(self, id: str) -> Backup:
        """By our id or the engine's label. Raises BackupNotFound."""
        own = self._board.get(id)
        if own is not None:
            return own
        for backup in await self.list():
            if id in (backup.id, backup.label):
                return backup
        raise BackupNotFound(f"There is no backup {id}: `holdfast backup list` shows each.", backup=id)

    def label(self, id: str) -> str:
        """The engine's label of the backup with our *id*; *id* itself when it is a label already, or unknown."""
        own = self._board.get(id)
        return own.label if own is not None and own.label else id

    def taken(self) -> bool:
        """Whether this service has ever taken one."""
        return any(backup.state is State.SUCCEEDED for backup in self._board.all())

    async def list(self) -> list[Backup]:
        """Newest first: what the repository holds, under our ids where we took it, and our running or failed ones."""
        return self.merge(await self._engine.inspect())

    def merge(self, repository: Repository) -> builtins.list[Backup]:
        """As list, from a *repository* read already."""
        own = self._board.all()
        known = {backup.label: backup for backup in own if backup.label}
        stored = [known.get(one.label, Backup.of(one)) for one in repository.backups]
        unfinished = [backup for backup in own if not backup.label]
        return sorted([*stored, *unfinished], key=lambda backup: (backup.started_at, backup.id), reverse=True)

    async def watch(self, id: str) -> AsyncIterator[Backup]:
        """The backup now and after each change, until it has ended. Raises BackupNotFound."""
        backup = await self.get(id)
        if backup.state in _OVER:
            yield backup
            return
        async for newer in self._board.watch(backup.id):
            yield newer
            if newer.state in _OVER:
                return

    def recover(self) -> None:
        """Read the journal; what an ended process left unfinished has failed. The caller holds the lock."""
        for id, backup in self._journal.load().items():
            if backup.state in _OVER:
                self._board.seed(id, backup)
                continue
            gone = Interrupted("The service ended while the backup was running.")
            failed = backup.failed(gone, now=self._now())
            self._journal.keep(id, failed.to_json())
            self._board.seed(id, failed)

    async def attest(self) -> None:
        """Evidence of every ended backup of ours that has none yet: found dead, or older than evidence."""
        for backup in self._board.all():
            if backup.state in _OVER:
                await self._attester.backup(backup)

    async def settle(self, seconds: float) -> None:
        """Let a running backup end within *seconds*, then end it."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _keep(self, backup: Backup) -> None:
        try:
            self._journal.save(backup.id, backup.to_json())
        except OSError as error:
            # No lasting refusal, as a drill's is: the schedule has to try again by itself.
            raise EngineAway(
                f"No backup was begun, for its journal cannot be written: {error.strerror}. Make room in"
                f" {self._journal.directory}.",
                fault=error.strerror,
            ) from error
        self._board.put(backup.id, backup)

    async def _run(self, backup: Backup, lock: Exclusive) -> None:
        try:
            work = self._engine.backup(backup.type, lambda percent: self._progress(backup, percent))
            stored = await lock.guard(work)
            ended = backup.completed(stored, now=self._now())
        except AppError as error:
            _log.error("backup_failed", backup=backup.id, reason=error.reason, fault=error.message)
            ended = backup.failed(error, now=self._now())
        except asyncio.CancelledError:
            ended = backup.failed(Interrupted("The service was stopped."), now=self._now())
        except Exception as error:
            _log.exception("backup_failed", backup=backup.id)
            ended = backup.failed(EngineFailed(f"Unexpected fault: {type(error).__name__}."), now=self._now())
        finally:
            await lock.free()
        try:
            self._journal.keep(ended.id, ended.to_json())
            await self._attester.backup(ended)
        except Exception:
            _log.exception("backup_not_attested", backup=ended.id)
        finally:
            self._board.put(ended.id, ended)  # whatever happens: the scheduler waits for it

    def _progress(self, backup: Backup, percent: float) -> None:
        self._board.put(backup.id, replace(backup, progress_percent=int(percent)))


def _always(_: Repository) -> bool:
    return True
