"""One claimed job on its way: decoded, handed to its handler within its time, and turned into how it ended."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from libs.errors import AppError
from libs.jobqueue.claim import Found
from libs.jobqueue.completion import StaleLease, Told
from libs.jobqueue.job import Cancelled, Completed, Discard, Handler, JobInvalid, Lease, Outcome, Retry, Snooze, decode
from libs.observability import context, log

_log = log.get(__name__)

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 3600.0


def backoff_seconds(attempt: int) -> float:
    """How long to wait after failed attempt number *attempt*: doubling from a second to an hour, between half and once
    and a half.
    """
    return min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(attempt - 1, 20)) * random.uniform(0.5, 1.5)


class Run:
    """ended is told how it ended, once; vanished is told instead when the lease was lost or the handler finished the
    job.
    """

    def __init__(
        self,
        found: Found,
        known: tuple[type[Any], Handler[Any]] | None,
        *,
        ended: Callable[[Told], None],
        vanished: Callable[[str], None],
    ) -> None:
        self.lease: Lease = found.lease
        self._found, self._known = found, known
        self._ended, self._vanished = ended, vanished
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it as a task of its own."""
        self._task = asyncio.create_task(self._run(), name=f"job-{self.lease.job_id}")
        self._task.add_done_callback(self._never_begun)

    def release(self) -> None:
        """Stop it and give it back, even when its handler has not been reached yet."""
        if self._task is not None:
            self._task.cancel()

    def lose(self) -> None:
        """Stop it and say nothing: it belongs to somebody else."""
        self._lost = True
        self.release()

    async def _run(self) -> None:
        with context.bound(request=self.lease.job_id):
            told = await self._told()
        self._tell(told)

    def _never_begun(self, task: asyncio.Task[None]) -> None:
        # _told() swallows every cancellation but one: a task cancelled before its first step runs none of its code.
        if task.cancelled():
            self._tell(self._make("release"))

    def _tell(self, told: Told | None) -> None:
        if self._lost or told is None:
            self._vanished(self.lease.job_id)
        else:
            self._ended(told)

    async def _told(self) -> Told | None:
        try:
            return self._from_outcome(await self._outcome())
        except asyncio.CancelledError:
            # Only release() and lose() cancel this task, so swallowing the cancellation hides it from nobody.
            return self._make("release")
        except StaleLease:
            self._lost = True
            return None
        except JobInvalid as error:
            return self._make("dead", error=f"JobInvalid: {error}")
        except Exception as error:
            _log.warning("job failed", job=self.lease.job_id, type=self._found.type, error=_described(error))
            return self._retry(_described(error))

    async def _outcome(self) -> Outcome | None:
        if self._known is None:
            raise JobInvalid(f"no handler for {self._found.type}")
        kind, handler = self._known
        job = decode(kind, self._found.payload)
        async with asyncio.timeout(self._found.timeout_seconds):
            return await handler(job, self.lease)

    def _from_outcome(self, outcome: Outcome | None) -> Told | None:
        match outcome:
            case Completed():
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


def _described(error: Exception) -> str:
    """The error's class, with the message only where messages are made for people: others may quote data."""
    name = type(error).__name__
    return f"{name}: {error.message}" if isinstance(error, AppError) else name
