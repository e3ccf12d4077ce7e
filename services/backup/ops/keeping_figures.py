"""What Prometheus is told of backups, their archive and their repository; alert rules read these names."""

import math
from datetime import datetime

from libs.observability.metric import Metrics
from services.backup.domain.listing import Listing
from services.backup.domain.repository import Repository
from services.backup.domain.schedule import Attempt, Task


class KeepingFigures:
    """Gauges that are not known yet say NaN, never 0: a zero would be a promise."""

    def __init__(self, metrics: Metrics) -> None:
        gauge = metrics.gauge
        self.exposure = gauge("holdfast_backup_rpo_exposure_seconds", "What a loss now would cost; +Inf: everything.")
        self.broken = gauge("holdfast_backup_rpo_broken", "1 while a hole in the archive cuts off the newest data.")
        self.queue = gauge("holdfast_backup_archive_queue_segments", "WAL segments not archived yet.")
        self.failing = gauge("holdfast_backup_archive_failing", "1 while the server's newest archiving attempt failed.")
        self.last_full = gauge("holdfast_backup_last_full_timestamp_seconds", "End of the newest good full backup.")
        self.last_any = gauge("holdfast_backup_last_backup_timestamp_seconds", "End of the newest good backup.")
        self.repository_bytes = gauge("holdfast_backup_repository_bytes", "What the repository takes, all objects.")
        self.oldest = gauge("holdfast_backup_oldest_data_age_seconds", "Age of the oldest data in the repository.")
        self.overdue = gauge("holdfast_backup_objects_past_ceiling", "Objects with data of more than 30 days ago.")
        self.inventory = gauge("holdfast_backup_inventory_timestamp_seconds", "When all objects were last listed.")
        self.watched = gauge("holdfast_backup_watch_timestamp_seconds", "When exposure was last looked at.")
        self.last_good = gauge(
            "holdfast_backup_task_good_timestamp_seconds", "When the scheduled task last ended well.", ("task",)
        )
        self.due = gauge("holdfast_backup_task_due_timestamp_seconds", "When the task is due next.", ("task",))
        self.runs = metrics.counter(
            "holdfast_backup_runs_total", "Scheduled work that ended, by outcome.", ("task", "outcome")
        )
        known_later = (self.exposure, self.queue, self.last_full, self.last_any, self.repository_bytes, self.oldest)
        for one in (*known_later, self.overdue, self.inventory):
            one.set(math.nan)
        for task in Task:
            self.last_good.labels(task.value).set(math.nan)
            for outcome in ("succeeded", "failed"):
                self.runs.labels(task.value, outcome)

    def held(self, repository: Repository) -> None:
        """What the repository lists."""
        good = [one for one in repository.backups if one.good]
        fulls = repository.fulls()
        self.last_full.set(fulls[-1].ended_at.timestamp() if fulls else 0)
        self.last_any.set(good[-1].ended_at.timestamp() if good else 0)

    def listed(self, listing: Listing, overdue: int, *, now: datetime) -> None:
        """What lies in the repository. overdue: objects that are too old."""
        oldest = listing.oldest()
        self.repository_bytes.set(listing.bytes)
        self.oldest.set((now - oldest).total_seconds() if oldest else 0)
        self.overdue.set(overdue)
        self.inventory.set(now.timestamp())

    def attempted(self, task: Task, attempt: Attempt, *, count: bool = True) -> None:
        """A task has ended. count: False for one that an earlier process did."""
        if attempt.good_at is not None:
            self.last_good.labels(task.value).set(attempt.good_at.timestamp())
        if count:
            self.runs.labels(task.value, "succeeded" if attempt.ok else "failed").inc()

    def exposed(self, seconds: float | None, *, restorable: bool) -> None:
        """seconds: None when nothing is restorable, or it is not known."""
        if seconds is not None:
            self.exposure.set(seconds)
        elif not restorable:
            self.exposure.set(math.inf)
