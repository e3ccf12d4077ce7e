"""What backups and drills say of themselves as evidence: which facts anybody may read, and which stay inside."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from libs.errors import AppError
from services.backup.domain import object_rpo
from services.backup.domain.backup import Backup
from services.backup.domain.drill import Check, Drill, Kind, Phase
from services.backup.domain.evidence import Entry, milliseconds
from services.backup.domain.progress import Fault, State


def backup_entry(backup: Backup, circumstances: Mapping[str, Any]) -> Entry:
    """The record of an ended *backup*. circumstances: versions and digests, see adapters.circumstances."""
    began, ended = backup.started_at, backup.ended_at
    facts = {
        "outcome": _outcome(backup.state),
        "type": backup.type,
        "started_at": began,
        "ended_at": ended,
        "elapsed_ms": milliseconds((ended - began).total_seconds()) if ended else None,
        "database_bytes": backup.database_bytes,
        "repository_bytes": backup.repository_bytes,
        "reason": _reason(backup.error),
    }
    internal = {
        "label": backup.label,
        "wal_start": backup.wal_start,
        "wal_stop": backup.wal_stop,
        "error": _error(backup.error),
        **circumstances,
    }
    return Entry("backup", f"backups/{backup.id}", facts, internal)


def drill_entry(drill: Drill, circumstances: Mapping[str, Any]) -> Entry:
    """The record of an ended *drill*. rpo_ms, rto_ms, objects_rpo_ms: null when it did not come that far, or not known.

    objects_sampled: of how many rows the objects were asked for.
    """
    proof, objects = drill.proof, object_rpo.of(drill)
    facts = {
        "outcome": _outcome(drill.state),
        "type": drill.kind,
        "full": drill.full,
        "scheduled": drill.scheduled,
        "asked_at": drill.created_at,
        "ended_at": drill.ended_at,
        "target": drill.stop_at,
        "target_lsn": drill.target_lsn or None,
        "reached": proof.heartbeat_at if proof else None,
        "reached_commit": proof.last_replayed_at if proof else None,
        "rpo_ms": milliseconds(drill.rpo_seconds),
        "rto_ms": milliseconds(drill.rto_seconds),
        "objects_rpo_ms": milliseconds(objects.seconds) if objects else None,
        "objects_sampled": objects.sampled if objects else 0,
        "predicted_ms": milliseconds(drill.predicted_seconds),
        "database_bytes": drill.database_bytes,
        "wal_segments": drill.wal_segments,
        "phases": [_phase(phase) for phase in drill.phases],
        "checks": [_check(check) for check in drill.checks],
        "reason": _reason(drill.error),
    }
    return Entry("drill", f"drills/{drill.id}", facts, _inside(drill, circumstances))


def refusal_entry(kind: Kind, error: AppError, *, at: datetime) -> Entry:
    """The record of a drill that was due and could not begin; the same for all refusals of a day for one reason."""
    facts = {"outcome": "failed", "type": kind, "scheduled": True, "ended_at": at, "reason": error.reason}
    return Entry("drill", f"refusals/{at:%Y-%m-%d}/{kind.value}/{error.reason}", facts, {"error": error.message})


def _inside(drill: Drill, circumstances: Mapping[str, Any]) -> Mapping[str, Any]:
    proof = drill.proof
    return {
        "label": drill.label,
        "backup": drill.backup,
        "system_id": drill.system_id,
        "timeline": proof.timeline if proof else None,
        "lsn": proof.last_replayed_lsn if proof else "",
        "heartbeat": proof.heartbeat if proof else None,
        "absent_heartbeat": proof.absent_heartbeat if proof else None,
        "isolation": drill.isolation,
        "details": {check.check: check.detail for check in drill.checks},
        "log_digest": drill.log_digest,
        "error": _error(drill.error),
        **circumstances,
    }


def _outcome(state: State) -> str:
    return "succeeded" if state is State.SUCCEEDED else "failed"


def _phase(phase: Phase) -> Mapping[str, Any]:
    return {"phase": phase.phase, "state": phase.state, "elapsed_ms": milliseconds(phase.elapsed_seconds)}


def _check(check: Check) -> Mapping[str, Any]:
    verdict = "not made" if not check.made else "ok" if check.ok else "failed"
    return {
        "check": check.check,
        "verdict": verdict,
        "count": check.count,
        "elapsed_ms": milliseconds(check.elapsed_seconds),
    }


def _reason(error: Fault | None) -> str:
    return error.reason if error else ""


def _error(error: Fault | None) -> Mapping[str, Any] | None:
    return {"message": error.message, "facts": dict(error.facts)} if error else None
