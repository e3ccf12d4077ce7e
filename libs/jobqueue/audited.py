"""Audit entries about jobs whose type declares `audited: ClassVar[bool] = True`, one for each transition, in the
transaction that makes it: put, claimed, ended (how), taken back from a worker that died or lost sight of it.

What operators do is audited for every job. A handler that calls `complete` itself leaves its own entry there, if it
wants one; `in_transaction` does. A worker records transitions of the types it has handlers for: what one of another
queue or of an older release takes back leaves no entry.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from libs import audit
from libs.db import Tx
from libs.jobqueue.completion import States, Told
from libs.jobqueue.job import kind


class Trail:
    """Records what becomes of jobs of these types; for those who claim, settle and rescue, each in its transaction."""

    def __init__(self, types: Iterable[str]) -> None:
        self._types = frozenset(types)

    async def claimed(self, tx: Tx, rows: Sequence[Any]) -> None:
        """rows: of a claim."""
        for row in self._of(rows):
            await audit.record(tx, "job.claimed", **_facts(row, "ready", "running"))

    async def taken_back(self, tx: Tx, rows: Sequence[Any]) -> None:
        """rows: of a rescue."""
        for row in self._of(rows):
            await audit.record(tx, "job.taken_back", **_facts(row, "running", row.state))

    def overran(self, connection: psycopg.Connection[Any], service: str, rows: Sequence[Any]) -> None:
        """rows: what a heart took back past its deadline, on its own thread and connection."""
        for row in self._of(rows):
            audit.record_in(connection, service, "job.taken_back", **_facts(row, "running", row.state))

    async def ended(self, tx: Tx, told: Sequence[Told], states: States) -> None:
        """*told*, of which those in *states* were accepted."""
        for one in told:
            state = states.get((one.lease.job_id, one.lease.lease))
            if state is None or one.type not in self._types:
                continue
            facts = {"job": one.lease.job_id, "type": one.type, "lease": str(one.lease.lease)}
            facts |= {"organization": getattr(one.lease.principal, "organization_id", "")}
            await audit.record(tx, "job.ended", old_state="running", new_state=_ended(state, one.kind), **facts)

    def _of(self, rows: Sequence[Any]) -> list[Any]:
        return [row for row in rows if row.type in self._types]


def trail(types: Iterable[type[Any]]) -> Trail | None:
    """What records transitions of those of *types* that ask for it; None when none does."""
    wanted = [kind(one).name for one in types if kind(one).audited]
    return Trail(wanted) if wanted else None


def _facts(row: Any, old_state: str, new_state: str) -> dict[str, str]:
    facts = {"job": row.id, "type": row.type, "lease": str(row.lease), "organization": row.organization_id}
    return facts | {"old_state": old_state, "new_state": new_state}


def _ended(state: str, kind: str) -> str:
    return kind if state == "finished" else state
