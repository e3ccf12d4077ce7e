"""What Prometheus is told of a restore now: its RTO and its RPO of objects, by past drills; anew at each scrape."""

import math
from typing import Any, Protocol

from libs.clock import Clock
from services.backup.domain import object_rpo
from services.backup.domain.status import foresight
from services.backup.ops.drills import Drills
from services.backup.ops.watch import Watch


class Makes(Protocol):
    """The part of libs.observability.metric.Metrics that is needed here."""

    def gauge(self, name: str, doc: str, labels: tuple[str, ...] = ()) -> Any:
        """A gauge on the process's registry."""
        ...


def show(metrics: Makes, watch: Watch, drills: Drills, *, now: Clock) -> None:
    """The series; NaN while no drill tells, for 0 would be a promise."""
    doc = "How long a restore now would take, request to proven copy, by past drills."
    metrics.gauge("backup_rto_foretold_seconds", doc).set_function(lambda: _rto(watch, drills))
    doc = "What a restore would lack of the files' bytes, by the newest drill that compared them with their rows."
    metrics.gauge("backup_objects_rpo_seconds", doc).set_function(lambda: _objects(drills, now))


def _rto(watch: Watch, drills: Drills) -> float:
    seconds = foresight(watch.held, drills.list()[::-1]).rto_seconds
    return math.nan if seconds is None else seconds


def _objects(drills: Drills, now: Clock) -> float:
    seconds = object_rpo.newest(drills.list(), now=now()).seconds
    return math.nan if seconds is None else seconds
