"""Every refusal of the backup service."""

from libs.errors import AppError, Kind


class BackupNotFound(AppError):
    """Neither our id nor the engine's label names a backup."""

    kind, reason = Kind.NOT_FOUND, "BACKUP_NOT_FOUND"


class DrillNotFound(AppError):
    """No journal of that id."""

    kind, reason = Kind.NOT_FOUND, "DRILL_NOT_FOUND"


class DrillEnded(AppError):
    """The drill is over: there is nothing to cancel; facts: drill."""

    kind, reason = Kind.PRECONDITION, "DRILL_ENDED"


class DrillCancelled(AppError):
    """Somebody cancelled the drill while it ran."""

    kind, reason = Kind.PRECONDITION, "DRILL_CANCELLED"


class BackupBusy(AppError):
    """A backup, expire or drill is running, in this process or another one."""

    kind, reason = Kind.PRECONDITION, "BACKUP_BUSY"


class NoBackup(AppError):
    """The repository holds nothing to restore."""

    kind, reason = Kind.PRECONDITION, "NO_BACKUP"


class TargetBeforeFirstBackup(AppError):
    """No backup, or no heartbeat, ends before the target."""

    kind, reason = Kind.PRECONDITION, "TARGET_BEFORE_FIRST_BACKUP"


class TargetNotArchived(AppError):
    """The target lies in the future, no archived heartbeat follows it, or its place may lie on two timelines."""

    kind, reason = Kind.PRECONDITION, "TARGET_NOT_ARCHIVED"


class DiskShort(AppError):
    """The copy would not fit beside what must stay free."""

    kind, reason = Kind.PRECONDITION, "DISK_SHORT"


class EngineFailed(AppError):
    """The engine, or the copy's server, ended with a fault; facts: command, code."""

    kind, reason = Kind.INTERNAL, "BACKUP_ENGINE_FAILED"


class ConfigurationGone(EngineFailed):
    """The engine's configuration file is not there; facts: config too."""


class EngineAway(AppError):
    """The engine cannot reach its repository or the server now; the same call may work later."""

    kind, reason = Kind.UNAVAILABLE, "UNAVAILABLE"


class Interrupted(AppError):
    """The service ended while this was under way."""

    kind, reason = Kind.UNAVAILABLE, "INTERRUPTED"


class ChecksFailed(AppError):
    """The copy was restored and at least one question about it was answered wrongly."""

    kind, reason = Kind.INTERNAL, "DRILL_CHECK_FAILED"


class EvidenceDamaged(AppError):
    """The journal of evidence, or a chain in the database, is not what was signed; facts: path or chain, record.

    Its copies have what it had.
    """

    kind, reason = Kind.INTERNAL, "EVIDENCE_DAMAGED"


class EvidenceChainNotFound(AppError):
    """The database has no record of this chain; facts: chain."""

    kind, reason = Kind.NOT_FOUND, "EVIDENCE_CHAIN_NOT_FOUND"


class JobNotFound(AppError):
    """Neither an unfinished job nor one in the history has this id."""

    kind, reason = Kind.NOT_FOUND, "JOB_NOT_FOUND"


class JobStateUnfit(AppError):
    """The job's state does not allow what was asked; facts: job, state."""

    kind, reason = Kind.PRECONDITION, "JOB_STATE_UNFIT"


class JobKeyTaken(AppError):
    """Another unfinished job has the unique key; facts: job, other."""

    kind, reason = Kind.PRECONDITION, "JOB_KEY_TAKEN"


class GuardOpen(AppError):
    """Jobs may run: there is nothing to release."""

    kind, reason = Kind.PRECONDITION, "GUARD_OPEN"
