"""One claimed job on its way: decoded, handed to its handler within its time, and turned into how it ended."""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from libs.errors import AppError
from libs.jobqueue.claim import Found
from libs.jobqueue.completion import StaleLease, Told
from libs.jobqueue.job import (
    Cancelled,
    Completed,
    Discard,
    Handler,
    JobInvalid,
    Lease,
    Outcome,
    Retry,
    Snooze,
    checked,
    decode,
)
from libs.observability import context, log

_log = log.get(__name__)

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 3600.0
_AT_ONCE = 100


def backoff_seconds(attempt: int) -> float:
    """How long to wait after failed attempt number *attempt*: doubling from a second to an hour, between half and once
    and a half.
    """
    return min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(attempt - 1, 20)) * random.uniform(0.5, 1.5)


class Run:
    """ended is told how it ended, once; vanished is told instead when the lease was lost or the handler finished the
    job. event: what then remains to be counted, done or stale.
    """

    __slots__ = (
        "_begun", "_ended", "_found", "_known", "_task", "_vanished", "_why", "event", "lease", "tenant", "until",
    )  # fmt: skip

    def __init__(
        self,
        found: Found,
        known: tuple[type[Any], Handler[Any]] | None,
        *,
        until: float,
        ended: Callable[[Told], None],
        vanished: Callable[["Run"], None],
    ) -> None:
        self.lease: Lease = found.lease
        self.tenant: str = getattr(found.lease.principal, "organization_id", "")
        self.until = until
        self._found, self._known = found, known
        self._ended, self._vanished = ended, vanished
        self._why = ""
        self.event = ""
        self._begun = False
        self._task: asyncio.Task[None] | None = None

    @property
    def job_type(self) -> str:
        """The job's type."""
        return self._found.type

    @property
    def stuck(self) -> bool:
        """Whether its handler still runs although the job is no longer this worker's."""
        return self._why == "lost" and self._task is not None and not self._task.done()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run it as a task of its own."""
        self._task = loop.create_task(self._run())

    def release(self) -> None:
        """Stop it and give it back, even when its handler has not been reached yet."""
        self._stop("release")

    def overrun(self) -> None:
        """Stop it: its time is over, and the attempt with it."""
        self._stop("timeout")

    def cancel(self) -> None:
        """Stop it for good: somebody asked for that."""
        self._stop("cancelled")

    def lose(self) -> None:
        """Stop it and say nothing: it belongs to somebody else."""
        self._stop("lost")

    def _stop(self, why: str) -> None:
        if self._why == why or (self._task is not None and self._task.done()):
            return
        self._why = self._why if self._why == "lost" else why
        # A task cancelled before its first step would run none of its code, and nobody would be told.
        if self._begun and self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        self._begun = True
        # The task has a context of its own, so nothing has to be put back.
        context.request_id.set(self.lease.job_id)
        self._tell(self._interrupted() if self._why else await self._told())

    def _tell(self, told: Told | None) -> None:
        self.until = math.inf  # its time is over only while its handler runs, not while its end waits to be written
        if self._why == "lost" or told is None:
            self._vanished(self)
        else:
            self._ended(told)

    async def _told(self) -> Told | None:
        if self._known is None:
            # Perhaps a newer replica knows it, so it is not given up soon, however few attempts it has.
            error = f"no handler for {self._found.type} in this release"
            return self._make("unknown", delay_seconds=backoff_seconds(self.lease.attempt), error=error)
        kind, handler = self._known
        try:
            if self._found.fault:
                raise JobInvalid(self._found.fault)
            outcome = await handler(decode(kind, self._found.payload), self.lease)
            if outcome is not None:
                checked(outcome)
            return self._from_outcome(outcome)
        except asyncio.CancelledError:
            # Only _stop() cancels this task (or its handler failed so), so swallowing this hides it from nobody.
            return self._interrupted()
        except StaleLease:
            self.event = "stale"
            return None
        except JobInvalid as error:
            return self._make("dead", error=f"JobInvalid: {error}")
        except Exception as error:
            _log.warning("job failed", job=self.lease.job_id, type=self._found.type, error=_described(error))
            return self._retry(_described(error))

    def _interrupted(self) -> Told:
        match self._why:
            case "timeout":
                return self._retry("TimeoutError")
            case "cancelled":
                return self._make("cancelled")
            case "release":
                return self._make("release")
            case _:
                # Something the handler waited for was cancelled: an attempt like another, or it would run for ever.
                return self._retry("CancelledError")

    def _from_outcome(self, outcome: Outcome | None) -> Told | None:
        match outcome:
            case None:
                return self._make("done")
            case Completed():
                self.event = "done"
                return None
            case Retry(at=None, reason=reason):
                return self._retry(reason)
            case Retry(at=at, reason=reason):
                return self._make("retry", at=at, error=reason)
            case Snooze(at=at):
                return self._make("snooze", at=at)
            case Discard(reason=reason):
                return self._make("discarded", error=reason)
            case Cancelled():
                return self._make("cancelled")
            case _:
                return self._make("done")

    def _retry(self, error: str) -> Told:
        return self._make("retry", delay_seconds=backoff_seconds(self.lease.attempt), error=error)

    def _make(self, kind: str, **how: Any) -> Told:
        return Told(self.lease, self._found.type, kind, **how)


class Starting:
    """Starts runs in order, a few at each turn of the event loop: the worker's next claim must not wait for all of
    them.
    """

    def __init__(self) -> None:
        self._waiting: deque[Run] = deque()

    def start(self, runs: Sequence[Run]) -> None:
        """Start these after those before them."""
        idle = not self._waiting
        self._waiting.extend(runs)
        if idle:
            self._some(asyncio.get_running_loop())

    def _some(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            self._waiting.popleft().start(loop)
        if self._waiting:
            loop.call_soon(self._some, loop)


def _described(error: Exception) -> str:
    """The error's class, with the message only where messages are made for people: others may quote data."""
    name = type(error).__name__
    return f"{name}: {error.message}" if isinstance(error, AppError) else name
