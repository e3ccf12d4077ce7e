"""What is counted of a service's jobs: what workers of this process did, and how its queues stand in the database.

The database is asked when somebody scrapes, never by itself, once a second at most. jobs.figures counts by indexes and
stops at 10000; dead tuples are the statistics collector's estimate. Every replica tells the same of the queues: take
the greatest, not the sum.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import Gauge
from sqlalchemy import text

from libs.db import Database
from libs.errors import AppError
from libs.jobqueue.job import kind
from libs.observability import log
from libs.observability.metric import Metrics
from libs.principal import System

_log = log.get(__name__)

_SECONDS = 2.0
_COOL_DOWN_SECONDS = 1.0
_OUTCOMES = ("done", "discarded", "cancelled", "retry", "unknown", "snooze", "release", "dead")
_BRIEF = text("SELECT set_config('statement_timeout', '1900', true)")
_QUEUES = text("SELECT * FROM jobs.figures(:service)")
_DEAD_TUPLES = text(
    "SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'jobs'"
    " AND relname IN ('jobs', 'ready', 'lanes', 'workers')"
)
# Whoever holds the oldest snapshot keeps dead rows from being cleaned away. Everybody may see whose it is, but not
# since when: that is told by how long the same one is seen here.
_OLDEST = text(
    "SELECT pid || ':' || backend_xmin, age(backend_xmin) FROM pg_stat_activity"
    " WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() ORDER BY age(backend_xmin) DESC LIMIT 1"
)


_QUEUE = ("queue",)


class Figures:
    """declare: tell it which jobs there are. observe: give it to each Worker. refresh: call it before metrics are
    shown.
    """

    def __init__(self, metrics: Metrics, database: Database, service: str) -> None:
        self._database, self._service = database, service
        self._refreshed_at = float("-inf")
        self._oldest, self._oldest_since = "", 0.0
        self._refreshing = asyncio.Lock()
        by_type = ("type",)
        self._claimed = metrics.counter("holdfast_jobs_claimed_total", "Jobs claimed by this process.", by_type)
        self._outcomes = metrics.counter(
            "holdfast_jobs_outcomes_total", "How claims of this process ended.", ("type", "outcome")
        )
        self._stale = metrics.counter(
            "holdfast_jobs_stale_writes_total", "Ends that came too late and changed nothing.", by_type
        )
        self._rescued = metrics.counter(
            "holdfast_jobs_rescued_total", "Jobs taken back from dead workers by this process.", by_type
        )
        self._held = metrics.gauge("holdfast_jobs_held", "1 while no job runs, because the database may be restored.")
        self._gauges = _gauges(metrics)
        self._paused = metrics.gauge("holdfast_jobs_paused", "1 while the queue is paused.", _QUEUE)
        self._dead_tuples = metrics.gauge(
            "holdfast_jobs_dead_tuples", "Rows that wait to be cleaned away, estimated.", ("table",)
        )
        self._oldest_age = metrics.gauge(
            "holdfast_jobs_oldest_snapshot_transactions", "How many transactions began since the oldest snapshot."
        )
        self._oldest_seconds = metrics.gauge(
            "holdfast_jobs_oldest_snapshot_seconds", "For how long, at least, the same oldest snapshot has been held."
        )

    def declare(self, jobs: Iterable[type[Any]]) -> None:
        """Make the counters of these types of jobs, at zero: one that is born with its first event shows no rise."""
        for name in (kind(job).name for job in jobs):
            for counter in (self._claimed, self._stale, self._rescued):
                counter.labels(name)
            for outcome in _OUTCOMES:
                self._outcomes.labels(name, outcome)

    def observe(self, event: str, type: str, count: int) -> None:
        """What a Worker tells."""
        if event == "claimed":
            self._claimed.labels(type).inc(count)
        elif event == "stale":
            self._stale.labels(type).inc(count)
        elif event == "rescued":
            self._rescued.labels(type).inc(count)
        elif event in ("held", "resumed"):
            self._held.set(event == "held")
        elif event in _OUTCOMES:
            self._outcomes.labels(type, event).inc(count)

    async def refresh(self) -> None:
        """Ask the database, for two seconds at most; without an answer the queues' series are absent."""
        async with self._refreshing:
            if time.monotonic() - self._refreshed_at < _COOL_DOWN_SECONDS:
                return
            try:
                async with asyncio.timeout(_SECONDS):
                    await self._ask()
            except (AppError, TimeoutError) as error:
                _log.warning("jobs_not_counted", error=type(error).__name__)
                self._forget()
            self._refreshed_at = time.monotonic()

    async def _ask(self) -> None:
        async with self._database.begin(System(self._service)) as tx:
            await tx.execute(_BRIEF)
            queues = (await tx.execute(_QUEUES, {"service": self._service})).all()
            dead = (await tx.execute(_DEAD_TUPLES)).all()
            oldest = (await tx.execute(_OLDEST)).first()
        self._forget()
        for row in queues:
            for name, gauge in self._gauges.items():
                gauge.labels(row.queue).set(getattr(row, name) or 0)
            self._paused.labels(row.queue).set(row.paused_at is not None)
        for row in dead:
            self._dead_tuples.labels(row.relname).set(row.n_dead_tup)
        self._see(oldest)

    def _see(self, oldest: Any) -> None:
        name, age = ("", 0) if oldest is None else oldest
        if name != self._oldest:
            self._oldest, self._oldest_since = name, time.monotonic()
        self._oldest_age.set(age)
        self._oldest_seconds.set(time.monotonic() - self._oldest_since if name else 0)

    def _forget(self) -> None:
        for gauge in (*self._gauges.values(), self._paused, self._dead_tuples):
            gauge.clear()


def _gauges(metrics: Metrics) -> dict[str, Gauge]:
    """By column of jobs.figures."""
    told = {
        "ready": ("ready", "Jobs that may be claimed, up to 10000."),
        "running": ("running", "Jobs that workers have, up to 10000."),
        "scheduled": ("scheduled", "Jobs whose time has not come, up to 10000."),
        "dead": ("dead", "Dead letters, up to 10000."),
        "oldest_ready_seconds": ("oldest_ready_age_seconds", "For how long the first ready job could have run."),
        "workers": ("workers", "Workers that gave a sign of life lately."),
    }
    return {column: metrics.gauge(f"holdfast_jobs_{name}", doc, _QUEUE) for column, (name, doc) in told.items()}
