"""What is counted of evidence: how much there is, and how much of it is not where it has to be."""

from typing import Any, Protocol

from services.backup.ops.evidence import Evidence


class Makes(Protocol):
    """The part of libs.observability.metric.Metrics that is needed here."""

    def gauge(self, name: str, doc: str, labels: tuple[str, ...] = ()) -> Any:
        """A gauge on the process's registry."""
        ...


def show(metrics: Makes, evidence: Evidence) -> None:
    """Series that are read off *evidence* whenever somebody looks."""
    journal = evidence.journal
    metrics.gauge("backup_evidence_records", "Records of evidence in the journal.").set_function(lambda: journal.count)
    metrics.gauge(
        "backup_evidence_unwritten_records",
        "Records of evidence that the disk refuses; they are in memory and in the log.",
    ).set_function(lambda: evidence.waiting)
    unsent = metrics.gauge(
        "backup_evidence_unmirrored_records", "Records of evidence that a mirror has not got yet.", ("mirror",)
    )
    for name in evidence.mirrors:
        unsent.labels(name).set_function(lambda name=name: journal.count - evidence.mirrored[name])
