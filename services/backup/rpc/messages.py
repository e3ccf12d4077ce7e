"""Domain values as messages of holdfast.backup.v1."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1 import upkeep_service_pb2 as upkeep
from libs import errors as refusals
from libs import names
from libs.errors import AppError, Kind
from libs.rpc import errors
from services.backup.domain.backup import Backup
from services.backup.domain.breach import Breach
from services.backup.domain.drill import Check, Drill, Phase, Proof
from services.backup.domain.drill import Kind as DrillKind
from services.backup.domain.heartbeat import Beat
from services.backup.domain.object_rpo import ObjectRpo
from services.backup.domain.object_rpo import of as object_rpo_of
from services.backup.domain.progress import Fault, State
from services.backup.domain.repository import BackupType
from services.backup.domain.status import Status

_STATES = {
    State.PENDING: pb.STATE_PENDING,
    State.RUNNING: pb.STATE_RUNNING,
    State.SUCCEEDED: pb.STATE_SUCCEEDED,
    State.FAILED: pb.STATE_FAILED,
}
_TYPES = {
    BackupType.FULL: pb.BACKUP_TYPE_FULL,
    BackupType.DIFFERENTIAL: pb.BACKUP_TYPE_DIFFERENTIAL,
    BackupType.INCREMENTAL: pb.BACKUP_TYPE_INCREMENTAL,
}
_MOST_ROWS = (1 << 31) - 1


def backup_type(value: int) -> BackupType | None:
    """What was asked for; None leaves it to the server."""
    return {number: kind for kind, number in _TYPES.items()}.get(value)  # type: ignore[call-overload,no-any-return]  # enum


_KINDS = {
    DrillKind.LIGHT: pb.DRILL_KIND_LIGHT,
    DrillKind.DEEP: pb.DRILL_KIND_DEEP,
    DrillKind.CHOSEN: pb.DRILL_KIND_CHOSEN,
}


def drill_kind(asked: pb.Drill) -> DrillKind:
    """What was asked for, or what the target says. Raises InvalidArgument for a kind that does not go with the rest."""
    chosen = asked.target.WhichOneof("kind") is not None or bool(asked.target.backup)
    kind = {number: kind for kind, number in _KINDS.items()}.get(asked.kind)
    if kind is None:
        return DrillKind.CHOSEN if chosen or asked.full_checks else DrillKind.LIGHT
    if kind is not DrillKind.CHOSEN and chosen:
        raise _unfit("drill.kind", "a light or deep drill chooses its own target")
    if kind is DrillKind.LIGHT and asked.full_checks:
        raise _unfit("drill.full_checks", "a light drill makes the light checks")
    found: DrillKind = kind
    return found


def _unfit(field: str, why: str) -> AppError:
    violation = refusals.Violation(field, why)
    return refusals.InvalidArgument(f"{field}: {why}.", violations=[violation], field=field)


def timestamp(at: datetime | None) -> Timestamp | None:
    """*at* as a Timestamp, None when there is none."""
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at.astimezone(UTC))
    return made


def moment(value: Timestamp, field: str) -> datetime:
    """*value* as an aware datetime, to the microsecond. Raises InvalidArgument of *field* when it is no moment."""
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _unfit(field, "has to lie in the years 1 to 9999, with 0 to 999999999 nanoseconds") from None


def backup(value: Backup) -> pb.Backup:
    """The message of *value*."""
    return pb.Backup(
        name=names.BACKUP.format(backup=value.id),
        type=_TYPES[value.type],
        state=_STATES[value.state],
        label=value.label,
        start_time=timestamp(value.started_at),
        end_time=timestamp(value.ended_at),
        database_bytes=value.database_bytes,
        repository_bytes=value.repository_bytes,
        wal_start=value.wal_start,
        wal_stop=value.wal_stop,
        progress_percent=value.progress_percent,
        error=_fault(value.error),
    )


def drill(value: Drill) -> pb.Drill:
    """The message of *value*."""
    target = pb.DrillTarget(lsn=value.target_lsn) if value.target_lsn else pb.DrillTarget(time=timestamp(value.target))
    if value.backup:
        target.backup = names.BACKUP.format(backup=value.backup)
    objects = object_rpo_of(value)
    return pb.Drill(
        name=names.DRILL.format(drill=value.id),
        target=target,
        state=_STATES[value.state],
        backup_label=value.label,
        resolved_target_time=timestamp(value.stop_at),
        phases=[_phase(one) for one in value.phases],
        checks=[_check(one) for one in value.checks],
        proof=_proof(value.proof) if value.proof else None,
        rpo_seconds=value.rpo_seconds,
        rto_seconds=value.rto_seconds,
        isolation=value.isolation,
        create_time=timestamp(value.created_at),
        end_time=timestamp(value.ended_at),
        error=_fault(value.error),
        kind=_KINDS[value.kind],
        full_checks=value.full,
        scheduled=value.scheduled,
        database_bytes=value.database_bytes,
        wal_segments=value.wal_segments,
        predicted_rto_seconds=value.predicted_seconds,
        object_rpo=_object_rpo(objects) if objects else None,
    )


def status(value: Status) -> pb.GetRecoveryStatusResponse:
    """The message of *value*."""
    window = value.window
    return pb.GetRecoveryStatusResponse(
        earliest_time=timestamp(window.earliest),
        latest_time=timestamp(window.latest),
        rpo_exposure_seconds=window.exposure_seconds,
        archive_queue_segments=value.waiting,
        last_archived_wal=value.last_archived_wal,
        last_archive_failure_time=timestamp(value.failing_since),
        newest_heartbeat=value.newest_heartbeat,
        last_backup=backup(value.last_backup) if value.last_backup else None,
        last_drill=drill(value.last_drill) if value.last_drill else None,
        warnings=value.warnings,
        recent_heartbeats=[heartbeat(beat) for beat in window.recent],
        predicted_rto_seconds=value.foresight.rto_seconds,
        rto_prediction_error=value.foresight.error,
        last_good_light_drill_time=timestamp(value.foresight.good_light_at),
        last_good_deep_drill_time=timestamp(value.foresight.good_deep_at),
        object_rpo=_object_rpo(value.objects),
        lost_intervals=[lost_interval(one) for one in window.lost],
        repository_unreadable=value.unreadable,
    )


def lost_interval(value: Breach) -> upkeep.LostInterval:
    """The message of *value*."""
    return upkeep.LostInterval(
        first_wal=value.first,
        last_wal=value.last,
        begin_time=timestamp(value.lost_from),
        end_time=timestamp(value.restorable_again),
        found_time=timestamp(value.found_at),
    )


def heartbeat(value: Beat) -> pb.Heartbeat:
    """The message of *value*."""
    return pb.Heartbeat(sequence=value.sequence, create_time=timestamp(value.created_at))


def _object_rpo(value: ObjectRpo) -> pb.ObjectRpo:
    return pb.ObjectRpo(
        seconds=value.seconds,
        sampled_rows=min(value.sampled, _MOST_ROWS),
        drill=names.DRILL.format(drill=value.drill) if value.drill else "",
        drill_end_time=timestamp(value.proven_at),
        unknown_reason=value.unknown,
    )


def _phase(value: Phase) -> pb.DrillPhase:
    return pb.DrillPhase(
        phase=value.phase,
        state=_STATES[value.state],
        start_time=timestamp(value.started_at),
        elapsed_seconds=value.elapsed_seconds,
    )


def _check(value: Check) -> pb.DrillCheck:
    verdict = pb.CHECK_VERDICT_OK if value.ok else pb.CHECK_VERDICT_FAILED
    return pb.DrillCheck(
        check=value.check,
        ok=value.ok,
        count=value.count,
        detail=value.detail,
        elapsed_seconds=value.elapsed_seconds,
        verdict=verdict if value.made else pb.CHECK_VERDICT_NOT_MADE,
    )


def _proof(value: Proof) -> pb.DrillProof:
    return pb.DrillProof(
        heartbeat=value.heartbeat,
        heartbeat_time=timestamp(value.heartbeat_at),
        absent_heartbeat=value.absent_heartbeat,
        last_replayed_time=timestamp(value.last_replayed_at),
        last_replayed_lsn=value.last_replayed_lsn,
        timeline=value.timeline,
    )


def _fault(value: Fault | None) -> status_pb2.Status | None:
    if value is None:
        return None
    return errors.to_status(_Kept(value))


class _Kept(AppError):
    """A fault from the journal, an error again."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.facts = fault.facts
        self._kept = fault

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # of the instance here
        return self._kept.kind

    @property
    def reason(self) -> str:  # type: ignore[override]  # of the instance here
        return self._kept.reason
