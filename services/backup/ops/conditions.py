"""What stands wrong now, kept across restarts so that "since" stays true."""

from libs.clock import Clock
from libs.observability import log
from libs.observability.metric import Metrics
from services.backup.adapters.journal import Journal
from services.backup.domain.condition import Condition, Name, Severity

_log = log.get(__name__)


class Conditions:
    """Told and cleared by whoever looks; telling one again changes its words and not its beginning."""

    def __init__(self, journal: Journal[Condition], metrics: Metrics, *, now: Clock) -> None:
        self._journal = journal
        self._now = now
        self._standing = {found.name: found for found in journal.load().values()}
        self._gauge = metrics.gauge("holdfast_backup_condition", "1 while the condition stands.", ("condition",))
        for name in Name:
            self._gauge.labels(name.value).set(name in self._standing)

    def tell(self, name: Name, text: str, remedy: str, *, severity: Severity = Severity.CRITICAL) -> None:
        """*name* stands."""
        before = self._standing.get(name)
        condition = Condition(name, severity, text, remedy, before.since if before else self._now())
        if before is None:
            _log.error("condition", condition=name.value, severity=severity.value, text=text, remedy=remedy)
        if condition != before:
            self._standing[name] = condition
            self._gauge.labels(name.value).set(1)
            self._journal.keep(name.value, condition.to_json())

    def clear(self, name: Name) -> None:
        """*name* does not stand any more; harmless when it did not."""
        if self._standing.pop(name, None) is not None:
            _log.info("condition_ended", condition=name.value)
            self._journal.remove(name.value)
            self._gauge.labels(name.value).set(0)

    def standing(self) -> list[Condition]:
        """Critical ones first, then the oldest first."""
        order = list(Severity)
        return sorted(self._standing.values(), key=lambda one: (order.index(one.severity), one.since))
