"""What Prometheus is told of the RTO of a restore now; told anew at each scrape, from what the watch last saw."""

import math
from typing import Any, Protocol

from services.backup.domain.status import foresight
from services.backup.ops.drills import Drills
from services.backup.ops.watch import Watch


class Makes(Protocol):
    """The part of libs.observability.metric.Metrics that is needed here."""

    def gauge(self, name: str, doc: str, labels: tuple[str, ...] = ()) -> Any:
        """A gauge on the process's registry."""
        ...


def show(metrics: Makes, watch: Watch, drills: Drills) -> None:
    """The series; NaN while no drill has told how long anything takes."""
    doc = "How long a restore now would take, request to proven copy, by past drills."
    metrics.gauge("backup_rto_foretold_seconds", doc).set_function(lambda: _rto(watch, drills))


def _rto(watch: Watch, drills: Drills) -> float:
    seconds = foresight(watch.held, drills.list()[::-1]).rto_seconds
    return math.nan if seconds is None else seconds
