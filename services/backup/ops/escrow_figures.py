"""What Prometheus is told of the escrow; read anew at each scrape, for nobody tells this service of an export."""

import math
from collections.abc import Callable
from datetime import datetime

from libs.observability.metric import Metrics
from services.backup.adapters.escrow import Escrow


class EscrowFigures:
    """Gauges; NaN for what is not known, never 0."""

    def __init__(self, metrics: Metrics, escrow: Escrow, proven: Callable[[], datetime | None]) -> None:
        """Begin to tell. proven: when a drill last restored with an escrow alone."""
        self._escrow = escrow
        self._proven = proven
        told = (
            ("stale", "1 while there is no escrow, or it does not hold what is installed.", self._stale),
            ("exported_timestamp_seconds", "When the newest escrow was exported.", self._exported),
            ("verified_timestamp_seconds", "When the newest escrow was last opened well.", self._verified),
            ("drilled_timestamp_seconds", "When a drill last restored with an escrow alone.", self._drilled),
        )
        for name, doc, value in told:
            metrics.gauge(f"holdfast_backup_escrow_{name}", doc).set_function(value)

    def _stale(self) -> float:
        return float(not self._escrow.standing().good) if self._escrow.watched else math.nan

    def _exported(self) -> float:
        at = self._escrow.standing().exported_at
        return at.timestamp() if at else math.nan

    def _drilled(self) -> float:
        at = self._proven()
        return at.timestamp() if at else math.nan

    def _verified(self) -> float:
        at = self._escrow.standing().verified_at
        return at.timestamp() if at else math.nan
