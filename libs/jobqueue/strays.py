"""Jobs that run in a worker's name while it does not run them: nobody else would ever take them, since it lives.

They come from a claim that was committed while its answer got lost, or from an outage in which the worker gave its jobs
up and after which it lives on. A crash is counted, so that a job whose end can never be written ends as a dead letter.
"""

import time
from collections.abc import Callable, Mapping

from sqlalchemy import text

from libs.db import Database
from libs.jobqueue.claim import Also
from libs.jobqueue.enqueue import channel
from libs.jobqueue.lanes import SHARE
from libs.jobqueue.rescue import MAX_CRASHES, TAKE_BACK
from libs.principal import System

_RUNNING = text(
    "SELECT id, lease FROM jobs.jobs WHERE worker_id = :worker AND state = 'running' AND service = :service"
)
_GIVE_BACK = text(
    f"""
    WITH lost AS MATERIALIZED (
        SELECT j.id, j.lease, 'its worker lost sight of it' AS why
        FROM unnest(CAST(:ids AS text[]), CAST(:leases AS bigint[])) AS stray (id, lease)
        JOIN jobs.jobs j ON j.id = stray.id AND j.lease = stray.lease
        WHERE j.service = :service AND j.state = 'running' AND j.worker_id = :worker ORDER BY j.id FOR UPDATE OF j
    ), {TAKE_BACK}
    SELECT id, type, state, lease, organization_id FROM changed
    """  # noqa: S608 - only constants of these modules are put together
)


class Strays:
    """Of one worker. also: called in the transaction that gives some back, with their rows."""

    def __init__(self, database: Database, service: str, worker_id: str, *, also: Also | None = None) -> None:
        self._database, self._also = database, also
        self._who = {"service": service, "worker": worker_id}
        self._suspects: dict[str, int] = {}
        self._asked = 0
        self._not_before = 0.0

    async def give_back(
        self, holds: Callable[[str, int], bool], claims: Callable[[], tuple[int, int]]
    ) -> list[tuple[str, str]]:
        """Look once; gives back what an earlier look has found as well; (type, state now) of each job.

        holds(job id, lease): whether the worker runs it. claims: how many it has begun and ended. A job that it does
        not hold may belong to a claim whose answer is on its way, so all that had begun have to have ended.
        """
        began = time.monotonic()
        if began < self._not_before:
            return []
        gone: list[tuple[str, str]] = []
        if self._suspects and claims()[1] >= self._asked:
            gone = await self._give_back({job: lease for job, lease in self._suspects.items() if not holds(job, lease)})
        running = await self._running()
        self._suspects = {job: lease for job, lease in running.items() if not holds(job, lease)}
        self._asked = claims()[0]
        # What it reads grows with what cannot be cleaned away, as a look at all lanes does.
        self._not_before = time.monotonic() + SHARE * (time.monotonic() - began)
        return gone

    async def _running(self) -> dict[str, int]:
        async with self._database.begin(System(self._who["service"]), pinned=True) as tx:
            return {row.id: row.lease for row in (await tx.execute(_RUNNING, self._who)).all()}

    async def _give_back(self, strays: Mapping[str, int]) -> list[tuple[str, str]]:
        if not strays:
            return []
        values = {**self._who, "ids": list(strays), "leases": list(strays.values()), "most": MAX_CRASHES}
        async with self._database.begin(System(self._who["service"]), pinned=True) as tx:
            rows = (await tx.execute(_GIVE_BACK, values)).all()
            if self._also is not None:
                await self._also(tx, rows)
            tx.wake(channel(self._who["service"]))
        return [(row.type, row.state) for row in rows]
