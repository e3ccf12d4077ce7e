"""A drill as a value: each change makes a new one, and the journal on disk is nothing but this value as JSON."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Annotated, Self

from libs.errors import AppError
from services.backup.domain.plan import Plan
from services.backup.domain.progress import Fault, State
from services.backup.domain.reading import Document, Name, Small

PHASES = ("select", "restore", "replay", "promote", "check", "smoke", "scrub", "teardown")
FULL_ONLY = ("smoke",)
AT_LEAST_EVERY = timedelta(days=8)


def _known(phase: object) -> str:
    if phase not in PHASES:
        raise ValueError("no phase of a drill")
    return str(phase)


class Kind(Enum):
    """Why a drill is made: LIGHT proves the RPO of now, DEEP that old moments are kept whole, CHOSEN what was asked."""

    LIGHT = "light"
    DEEP = "deep"
    CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Phase:
    """One step. started_at is None while PENDING; elapsed_seconds is final once it has ended."""

    phase: Annotated[str, _known]
    state: State = State.PENDING
    started_at: datetime | None = None
    elapsed_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """One question asked of the copy and its answer; count: how many things were looked at.

    made: False when it could not be asked, and detail says why: that is neither ok nor a fault of the copy.
    since: when the oldest of what is wrong was made, None where that is not known.
    """

    check: str
    ok: bool
    count: int
    detail: str
    elapsed_seconds: float = 0.0
    made: bool = True
    since: datetime | None = None

    @property
    def failed(self) -> bool:
        """Whether the answer was wrong."""
        return self.made and not self.ok


def phases(*, full: bool) -> tuple[Phase, ...]:
    """The phases of a drill that has not begun."""
    return tuple(Phase(name) for name in PHASES if full or name not in FULL_ONLY)


def not_made(check: str, why: str) -> Check:
    """A check that could not be asked."""
    return Check(check, False, 0, why, made=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the copy showed. absent_heartbeat: 0 at the end of the archive. last_replayed_at: None without replay."""

    heartbeat: int
    heartbeat_at: datetime
    absent_heartbeat: int
    last_replayed_at: datetime | None
    last_replayed_lsn: str
    timeline: Small


@dataclass(frozen=True, slots=True)
class Drill(Document):
    """One restore into an isolated copy. target, target_lsn, backup: as asked for, None and "" for the newest.

    pid: of the copy's server, for the reaper; 0 when there is none. full: every page and index entry is checked.
    scheduled: the timetable asked for it. database_bytes, wal_segments: what was restored and what was replayed.
    predicted_seconds: what the drills before it foretold of rto_seconds, None without any. system_id, log_digest: of
    the restored data and of the copy's server log, for evidence.
    """

    id: Name
    created_at: datetime
    target: datetime | None = None
    backup: str = ""
    state: State = State.PENDING
    label: str = ""
    stop_at: datetime | None = None
    phases: tuple[Phase, ...] = field(default_factory=lambda: tuple(Phase(name) for name in PHASES))
    checks: tuple[Check, ...] = ()
    proof: Proof | None = None
    rpo_seconds: float | None = None
    rto_seconds: float | None = None
    isolation: str = ""
    ended_at: datetime | None = None
    error: Fault | None = None
    pid: int = 0
    kind: Kind = Kind.CHOSEN
    full: bool = False
    scheduled: bool = False
    database_bytes: int = 0
    wal_segments: int = 0
    predicted_seconds: float | None = None
    system_id: str = ""
    log_digest: str = ""
    target_lsn: str = ""

    @property
    def good(self) -> bool:
        """Whether it has ended well."""
        return self.state is State.SUCCEEDED

    @property
    def fault(self) -> str:
        """What went wrong, "" for nothing or not yet."""
        return self.error.message if self.error else ""

    def ended_by(self, *faults: type[AppError]) -> bool:
        """Whether one of *faults* alone ended it, and no check was answered wrongly: then it disproves nothing."""
        told = self.error is not None and self.error.reason in [fault.reason for fault in faults]
        return told and not any(check.failed for check in self.checks)

    def phase(self, name: str) -> Phase:
        """The phase of this name, PENDING for one that this drill was made without."""
        return next((phase for phase in self.phases if phase.phase == name), Phase(name))

    def entered(self, name: str, *, now: datetime) -> Self:
        """Phase *name* begins, and what ran before it has ended well."""
        drill = self.left(now=now) if any(phase.state is State.RUNNING for phase in self.phases) else self
        return drill._with(Phase(name, State.RUNNING, now), State.RUNNING)

    def left(self, *, now: datetime, well: bool = True) -> Self:
        """The running phase has ended."""
        ended = State.SUCCEEDED if well else State.FAILED
        phases = tuple(_ended(phase, ended, now) if phase.state is State.RUNNING else phase for phase in self.phases)
        return replace(self, phases=phases)

    def failed(self, error: AppError, *, now: datetime) -> Self:
        """The drill has failed for *error*; the first fault stays, teardown may still follow."""
        return replace(self.left(now=now, well=False), error=self.error or Fault.of(error))

    def ended(self, *, now: datetime) -> Self:
        """The last word: SUCCEEDED only without any fault, with some check right and none wrong."""
        sound = any(check.ok for check in self.checks) and not any(check.failed for check in self.checks)
        good = self.error is None and sound
        state = State.SUCCEEDED if good else State.FAILED
        return replace(self.left(now=now), state=state, ended_at=now, pid=0)

    def planned(self, chosen: Plan) -> Self:
        """What will be restored, and to where."""
        return replace(self, label=chosen.label, stop_at=chosen.stop_at, database_bytes=chosen.database_bytes)

    def _with(self, phase: Phase, state: State) -> Self:
        phases = tuple(phase if old.phase == phase.phase else old for old in self.phases)
        return replace(self, phases=phases, state=state)


def _ended(phase: Phase, state: State, now: datetime) -> Phase:
    started = phase.started_at or now
    return replace(phase, state=state, elapsed_seconds=max(0.0, (now - started).total_seconds()))
