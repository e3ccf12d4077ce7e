"""A worker's sign of life, from a thread with a connection of its own: a blocked event loop must not look like a
death.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from libs.jobqueue.plan import RUNNING
from libs.jobqueue.rescue import GRACE_SECONDS, OVERRUN, overrun
from libs.observability import log

_log = log.get(__name__)

_BEAT = (
    "INSERT INTO jobs.workers (id, service, queue) VALUES (%s, %s, %s)"
    " ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp()"
)
_HELD = f"""
    SELECT held.id, j.id IS NULL, j.lease = held.lease AND {RUNNING} AND j.worker_id = %s,
        j.cancel_requested_at IS NOT NULL
    FROM unnest(%s::text[], %s::bigint[]) AS held (id, lease)
    LEFT JOIN jobs.jobs j ON j.id = held.id AND j.service = %s
    """  # noqa: S608 - a constant of ours
# The row stays, as a dead worker's, for whoever looks after what this one may still have held.
_LEAVE = "UPDATE jobs.workers SET beat_at = '-infinity' WHERE id = %s AND service = %s"


@dataclass(frozen=True, slots=True)
class Hold:
    """One job this worker runs: under which lease, until when by time.monotonic() it may."""

    lease: int
    until: float


Held = Mapping[str, Hold]
Also = Callable[[psycopg.Connection[Any], str, Sequence[Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a beat found out, as job id → lease: lost, no longer this worker's; cancelled, asked to end. taken: (type,
    state now) of each job that it took back, past its deadline.
    """

    lost: Mapping[str, int]
    cancelled: Mapping[str, int]
    taken: Sequence[tuple[str, str]] = ()


class Heart:
    """Beats every beat_seconds and tells what became of the held jobs; takes back those that are past their deadline.

    settings: for psycopg.connect. names: (service, worker id, queue). held: returns job id → Hold; tell: both are
    called on this thread. also: called with the rows of what it takes back, in that transaction.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        names: tuple[str, str, str],
        *,
        beat_seconds: float,
        dead_seconds: float,
        held: Callable[[], Held],
        tell: Callable[[Told], None],
        also: Also | None = None,
    ) -> None:
        self._settings = dict(settings)
        self._service, self._worker_id, self._queue = names
        self._beat_seconds, self._dead_seconds = beat_seconds, dead_seconds
        self._held, self._tell, self._also = held, tell, also
        self._ended = False
        self._now = threading.Event()
        self._beaten_at = float("-inf")
        self._gone: set[tuple[str, int]] = set()
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = threading.Thread(target=self._run, name=f"heart-{self._worker_id}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the last beat is recent enough to claim jobs; a margin is left for the claim itself."""
        return time.monotonic() - self._beaten_at < self._dead_seconds * 0.75

    @property
    def lapsed(self) -> bool:
        """Whether others take the worker for dead by now. Not for this thread to tell: it may wait for a dead host."""
        return time.monotonic() - self._beaten_at >= self._dead_seconds

    def start(self) -> None:
        """Begin beating; the first beat is tried at once."""
        self._thread.start()

    def hurry(self) -> None:
        """Beat now: somebody has asked for a job's end."""
        self._now.set()

    def stop(self) -> None:
        """Sign off, so that what this worker may still hold is free at once. Blocks for a beat at most."""
        self._ended = True
        self._now.set()
        if self._thread.is_alive():
            self._thread.join(self._beat_seconds + 5)

    def _run(self) -> None:
        while not self._ended:
            self._try(self._beat)
            self._now.wait(self._beat_seconds if self.alive else min(1.0, self._beat_seconds))
            if not self._ended:
                self._now.clear()
        self._try(self._leave)
        self._close()

    def _try(self, action: Callable[[psycopg.Connection[Any]], None]) -> None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(**self._settings, autocommit=True)
            action(self._connection)
        except psycopg.Error as error:
            _log.warning("heartbeat failed", error=type(error).__name__)
            self._close()
        except Exception:
            # A thread that ended would take the worker with it.
            _log.exception("heartbeat failed")
            self._close()

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        began = time.monotonic()
        connection.execute(_BEAT, [self._worker_id, self._service, self._queue])
        # What others see; what follows may fail for one job, and the others are this worker's all the same.
        self._beaten_at = began
        held = self._held()
        taken = self._take_back_overrun(connection, held, began)
        found = self._look(connection, held) if held else []
        # A job that is there no more has just been finished by its own handler, most likely, which is about to say so.
        gone = {(job, held[job].lease) for job, absent, _, _ in found if absent}
        lost = {job: held[job].lease for job, absent, ours, _ in found if not absent and not ours}
        lost |= dict(gone & self._gone)
        self._gone = gone
        cancelled = {job: held[job].lease for job, _, ours, wanted in found if ours and wanted}
        if lost or cancelled:
            self._tell(Told(lost=lost, cancelled=cancelled, taken=taken))

    def _look(self, connection: psycopg.Connection[Any], held: Held) -> list[tuple[str, bool, bool, bool]]:
        """(job, whether it is there no more, whether it is ours still, whether its end was asked for)."""
        values = [self._worker_id, list(held), [hold.lease for hold in held.values()], self._service]
        return connection.execute(_HELD, values).fetchall()

    def _take_back_overrun(self, connection: psycopg.Connection[Any], held: Held, now: float) -> list[tuple[str, str]]:
        late = {job: hold.lease for job, hold in held.items() if hold.until + GRACE_SECONDS < now}
        if not late:
            return []
        try:
            with connection.transaction(), connection.cursor(row_factory=namedtuple_row) as cursor:
                rows: list[Any] = cursor.execute(OVERRUN.encode(), overrun(self._service, late)).fetchall()
                if self._also is not None:
                    self._also(connection, self._service, rows)
        except psycopg.Error as error:
            _log.warning("cannot take back jobs past their deadline", jobs=len(late), error=type(error).__name__)
            return []
        return [(row.type, row.state) for row in rows]

    def _leave(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(_LEAVE, [self._worker_id, self._service])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
