"""Audit entries about jobs whose type declares `audited: ClassVar[bool] = True`: one for each end of a claim, in the
transaction that writes the end.

A handler that finishes its job in its own transaction leaves its own entry there, if it wants one; a claim that a dead
worker never ended leaves none.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from libs import audit
from libs.db import Tx
from libs.jobqueue.completion import Also, Told
from libs.jobqueue.job import kind


def recorder(types: Iterable[type[Any]]) -> Also | None:
    """What records the ends of those of *types* that ask for it; None when none does."""
    wanted = frozenset(kind(one).name for one in types if getattr(one, "audited", False))
    if not wanted:
        return None

    async def record(tx: Tx, told: Sequence[Told], states: Mapping[str, str]) -> None:
        for one in told:
            state = states.get(one.lease.job_id)
            if state is None or one.type not in wanted:
                continue
            facts = {"job": one.lease.job_id, "type": one.type, "lease": str(one.lease.lease)}
            facts |= {"organization": getattr(one.lease.principal, "organization_id", "")}
            await audit.record(tx, "job.ended", old_state="running", new_state=_ended(state, one.kind), **facts)

    return record


def _ended(state: str, kind: str) -> str:
    return kind if state == "finished" else state
