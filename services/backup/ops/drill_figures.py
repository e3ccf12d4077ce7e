"""What is counted of drills. A series that is absent until something happens cannot alert: all exist from the start."""

import math
from typing import Any, Protocol

from services.backup.domain import errors
from services.backup.domain.drill import PHASES, Drill, Kind

_BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)

# Why a drill of the timetable may not begin; that another one is at work does not count.
_REASONS = tuple(
    sorted(
        kind.reason
        for kind in (
            errors.NoBackup,
            errors.BackupNotFound,
            errors.TargetBeforeFirstBackup,
            errors.TargetNotArchived,
            errors.DiskShort,
            errors.EngineFailed,
            errors.EngineAway,
        )
    )
)


class Makes(Protocol):
    """The part of libs.observability.metric.Metrics that is needed here."""

    def counter(self, name: str, doc: str, labels: tuple[str, ...] = ()) -> Any:
        """A counter on the process's registry."""
        ...

    def gauge(self, name: str, doc: str, labels: tuple[str, ...] = ()) -> Any:
        """A gauge on the process's registry."""
        ...

    def histogram(self, name: str, doc: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = ()) -> Any:
        """A histogram on the process's registry."""
        ...


class DrillFigures:
    """Series of drills, by kind: light, deep, chosen."""

    def __init__(self, metrics: Makes) -> None:
        kind = ("kind",)
        self._good = metrics.gauge(
            "backup_last_good_drill_timestamp_seconds", "When the newest good drill ended; 0 when there was none.", kind
        )
        self._outcome = metrics.gauge(
            "backup_last_drill_succeeded",
            "1 when the newest drill that nobody cancelled was good, 0 when it failed.",
            kind,
        )
        self._rto = metrics.gauge("backup_drill_rto_seconds", "Request to proven copy, of the newest good drill.", kind)
        self._rpo = metrics.gauge(
            "backup_drill_rpo_seconds", "Data lost at its target, of the newest good drill.", kind
        )
        self._miss = metrics.gauge(
            "backup_rto_prediction_error_ratio", "|foretold - measured RTO| / measured, of the newest good drill."
        )
        self._phases = metrics.histogram(
            "backup_drill_phase_seconds", "How long each phase of a drill took.", ("phase",), _BUCKETS
        )
        self._refused = metrics.counter(
            "backup_drill_refused_total", "Drills of the timetable that could not begin.", ("kind", "reason")
        )
        for one in Kind:
            self._good.labels(one.value)
            self._outcome.labels(one.value).set(1)
            self._rto.labels(one.value).set(math.nan)
            self._rpo.labels(one.value).set(math.nan)
            for reason in _REASONS:
                self._refused.labels(one.value, reason)
        self._miss.set(math.nan)
        for phase in PHASES:
            self._phases.labels(phase)

    def known(self, drill: Drill) -> None:
        """Take in a drill that has ended, told oldest first; its phases were counted when it ended."""
        kind = drill.kind.value
        if not drill.ended_by(errors.DrillCancelled):
            self._outcome.labels(kind).set(1 if drill.good else 0)
        if not drill.good or drill.ended_at is None:
            return
        self._good.labels(kind).set(drill.ended_at.timestamp())
        self._rto.labels(kind).set(drill.rto_seconds or 0.0)
        self._rpo.labels(kind).set(drill.rpo_seconds or 0.0)
        if drill.predicted_seconds is not None and drill.rto_seconds:
            self._miss.set(abs(drill.predicted_seconds - drill.rto_seconds) / drill.rto_seconds)

    def ended(self, drill: Drill) -> None:
        """A drill has just ended."""
        self.known(drill)
        for phase in drill.phases:
            if phase.started_at is not None:
                self._phases.labels(phase.phase).observe(phase.elapsed_seconds)

    def refused(self, kind: Kind, reason: str) -> None:
        """The timetable's drill could not begin."""
        self._refused.labels(kind.value, reason).inc()
