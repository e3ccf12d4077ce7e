"""What is counted. No label names a person, an organization or anything a stranger chooses."""

from typing import Any, Protocol


class Makes(Protocol):
    """The part of libs.observability.metric.Metrics that is needed here."""

    def counter(self, name: str, doc: str, labels: tuple[str, ...] = ()) -> Any:
        """A counter on the process's registry."""
        ...

    def gauge(self, name: str, doc: str, labels: tuple[str, ...] = ()) -> Any:
        """A gauge on the process's registry."""
        ...


class Figures:
    """The series of this service; `ended` by cause, `refused` by reason."""

    def __init__(self, metrics: Makes) -> None:
        self.open = metrics.gauge("holdfast_events_streams", "Open streams of this replica.")
        self.written = metrics.counter("holdfast_events_written_total", "Events written to readers.")
        self.foreign = metrics.counter(
            "holdfast_events_foreign_total", "Events of another user caught before the write: each is an incident."
        )
        self.resets = metrics.counter("holdfast_events_resets_total", "Gaps told to readers.", ("cause",))
        self.ended = metrics.counter("holdfast_events_streams_ended_total", "Streams ended by us.", ("cause",))
        self.refused = metrics.counter("holdfast_events_streams_refused_total", "Streams not opened.", ("reason",))
        for cause in ("rotation", "draining", "session_ended", "slow_reader", "unavailable", "foreign_event"):
            self.ended.labels(cause)
        for reason in ("TOO_MANY_STREAMS", "RATE_LIMITED", "UNAVAILABLE", "DRAINING"):
            self.refused.labels(reason)
        for cause in ("epoch_changed", "too_old", "unknown"):
            self.resets.labels(cause)
