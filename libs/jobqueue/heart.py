"""A worker's sign of life, from a thread with a connection of its own: a blocked event loop must not look like a
death.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from libs.observability import log

_log = log.get(__name__)

Held = Mapping[str, int]
Lost = Callable[[Held], None]

_BEAT = (
    "INSERT INTO jobs.workers (id, service) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp()"
)
_STILL_HELD = (
    "SELECT j.id, j.lease FROM jobs.jobs j JOIN unnest(%s::text[], %s::bigint[]) AS held (id, lease)"
    " ON j.id = held.id AND j.lease = held.lease WHERE j.service = %s AND j.state = 'running' AND j.worker_id = %s"
)
_LEAVE = "DELETE FROM jobs.workers WHERE id = %s AND service = %s"


class Heart:
    """Beats every beat_seconds and tells, by lost(), which of the held leases are no longer this worker's.

    settings: for psycopg.connect. held: returns job id → lease; lost: both are called on this thread.
    When no beat has succeeded for dead_seconds all of them are lost: others take the worker for dead by now.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        names: tuple[str, str],
        *,
        beat_seconds: float,
        dead_seconds: float,
        held: Callable[[], Held],
        lost: Lost,
    ) -> None:
        self._settings = dict(settings)
        self._service, self._worker_id = names
        self._beat_seconds, self._dead_seconds = beat_seconds, dead_seconds
        self._held, self._lost = held, lost
        self._ended = threading.Event()
        self._beaten_at = float("-inf")
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = threading.Thread(target=self._run, name=f"heart-{self._worker_id}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the last beat is recent enough to claim jobs; a margin is left for the claim itself."""
        return time.monotonic() - self._beaten_at < self._dead_seconds * 0.75

    def start(self) -> None:
        """Begin beating; the first beat is tried at once."""
        self._thread.start()

    def stop(self) -> None:
        """Sign off, so that what this worker may still hold is free at once. Blocks for a beat at most."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(self._beat_seconds + 5)

    def _run(self) -> None:
        while True:
            self._try(self._beat)
            if time.monotonic() - self._beaten_at >= self._dead_seconds:
                self._lost(self._held())
            if self._ended.wait(self._beat_seconds if self.alive else min(1.0, self._beat_seconds)):
                break
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

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        began = time.monotonic()
        connection.execute(_BEAT, [self._worker_id, self._service])
        held = self._held()
        values = [list(held), list(held.values()), self._service, self._worker_id]
        ours = {row[0] for row in connection.execute(_STILL_HELD, values)} if held else set()
        self._beaten_at = began
        lost = {job: lease for job, lease in held.items() if job not in ours}
        if lost:
            self._lost(lost)

    def _leave(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(_LEAVE, [self._worker_id, self._service])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
