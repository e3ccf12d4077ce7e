"""Ending a claim. Every write names the lease it holds; one that is no longer the job's changes nothing and is
counted.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text

from libs.db import Database, Tx
from libs.errors import AppError, Kind
from libs.jobqueue import hot
from libs.jobqueue.enqueue import channel
from libs.jobqueue.job import Completed, Lease
from libs.jobqueue.plan import RUNNING
from libs.principal import System

# Whoever reads a job's row has to be able to hold its time.
_FIRST, _LAST = "1970-01-01 00:00Z", "9999-12-31 00:00Z"
UNKNOWN_ATTEMPTS = 12
"""So often a job is claimed at least that no worker knows: an hour, in which a deploy should have ended."""
FINISHED = frozenset(("done", "discarded", "cancelled"))
LONGEST_ERROR = 500

_TOLD = """
    WITH told AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:leases AS bigint[]), CAST(:kinds AS text[]),
            CAST(:ats AS timestamptz[]), CAST(:delays AS double precision[]), CAST(:errors AS text[]))
            AS told (id, lease, kind, at, delay_seconds, error)
    )"""
_FENCE = f"j.id = t.id AND j.lease = t.lease AND j.service = :service AND {RUNNING}"

# Most jobs are simply done: two columns are told of them instead of six.
_DONE = """
    WITH told AS MATERIALIZED (
        SELECT id, lease, 'done' AS kind, '' AS error
        FROM unnest(CAST(:ids AS text[]), CAST(:leases AS bigint[])) AS told (id, lease)
    )"""


def _finish(told: str) -> TextClause:
    return text(
        f"""{told}, gone AS (
            DELETE FROM jobs.jobs j USING told t WHERE {_FENCE}
            RETURNING j.id, j.service, j.queue, j.type, j.organization_id, j.user_id, t.kind, j.lease, j.failures,
                j.crashes, j.created_at, j.claimed_at, t.error
        )
        INSERT INTO jobs.history (id, service, queue, type, organization_id, user_id, outcome, lease, failures, crashes,
            created_at, claimed_at, error)
        SELECT * FROM gone RETURNING id, lease
        """  # noqa: S608 - only constants of this module are put together
    )


_FINISH, _FINISH_DONE = _finish(_TOLD), _finish(_DONE)
_GIVE_BACK = text(
    f"""{_TOLD}, decided AS (
        SELECT j.id, t.lease, t.kind, t.error,
            greatest(least(coalesce(t.at, clock_timestamp() + t.delay_seconds * interval '1 second'), '{_LAST}'),
                '{_FIRST}') AS at,
            t.kind = 'dead' OR (t.kind = 'retry' AND j.failures + 1 >= j.max_attempts)
                OR (t.kind = 'unknown' AND j.failures + 1 >= greatest(j.max_attempts, {UNKNOWN_ATTEMPTS})) AS dead
        FROM jobs.jobs j JOIN told t ON {_FENCE}
    ), changed AS (
        UPDATE jobs.jobs j SET
            state = CASE WHEN t.dead THEN 'dead' WHEN t.at > clock_timestamp() THEN 'scheduled' ELSE 'ready' END,
            run_at = CASE WHEN t.dead THEN j.run_at ELSE t.at END,
            failures = j.failures + (t.kind IN ('retry', 'unknown', 'dead'))::integer,
            finished_at = CASE WHEN t.dead THEN clock_timestamp() END,
            error = CASE WHEN t.error = '' THEN j.error ELSE t.error END,
            worker_id = NULL, deadline_at = NULL
        FROM decided t WHERE {_FENCE}
        RETURNING j.id, j.service, j.queue, j.organization_id, j.priority, j.state, j.lease
    ), {hot.INSERT.format(source="changed WHERE state = 'ready' ORDER BY id")}
    SELECT id, lease, state FROM changed
    """  # noqa: S608 - only constants of this module are put together
)


class StaleLease(AppError):
    """The job belongs to another claim by now; whatever was done under this lease must not count."""

    kind, reason = Kind.CONFLICT, "INTERNAL"


class Told(NamedTuple):
    """How one claim ended. kind: one of FINISHED, retry, unknown (by this release), snooze, release or dead; at or
    delay_seconds: when to run again.
    """

    lease: Lease
    type: str
    kind: str
    at: datetime | None = None
    delay_seconds: float = 0.0
    error: str = ""


States = Mapping[tuple[str, int], str]
"""(job id, lease) → the job's state now, of each end that was accepted."""
Also = Callable[[Tx, Sequence[Told], States], Awaitable[None]]


async def complete(tx: Tx, lease: Lease) -> Completed:
    """Finish the job in *tx*, with the handler's own writes: all of it happens, or none. Return the answer from the
    handler.

    Raises StaleLease, which undoes *tx*, when the job has been taken from this worker meanwhile.
    """
    if not (await tx.execute(_FINISH_DONE, _leases(tx.service, [Told(lease, "", "done")]))).all():
        raise StaleLease("The job belongs to another claim by now.", job=lease.job_id)
    return Completed()


async def settle(database: Database, service: str, told: Sequence[Told], *, also: Also | None = None) -> States:
    """Write how these claims ended, in one transaction. What is missing in the answer had a stale lease.

    also: called in that transaction with *told* and the states.
    """
    # Each statement locks in order of ids; one that meets another's crosswise is repeated.
    told = sorted(told, key=_job_id)
    done = [one for one in told if one.kind == "done"]
    finished = [one for one in told if one.kind in FINISHED and one.kind != "done"]
    others = [one for one in told if one.kind not in FINISHED]
    accepted: dict[tuple[str, int], str] = {}
    async with database.begin(System(service), pinned=True) as tx:
        if done:
            accepted |= dict.fromkeys(map(tuple, await tx.execute(_FINISH_DONE, _leases(service, done))), "finished")
        if finished:
            accepted |= dict.fromkeys(map(tuple, await tx.execute(_FINISH, _arguments(service, finished))), "finished")
        if others:
            rows = (await tx.execute(_GIVE_BACK, _arguments(service, others))).all()
            accepted |= {(row.id, row.lease): row.state for row in rows}
            if "ready" in accepted.values():
                tx.wake(channel(service))
        if also is not None:
            await also(tx, told, accepted)
    return accepted


def _job_id(told: Told) -> str:
    return told.lease.job_id


def _leases(service: str, told: Sequence[Told]) -> dict[str, Any]:
    # Written as literals: ids are ours and numbers need no quoting, and the driver would examine each element.
    return {
        "service": service,
        "ids": "{" + ",".join([one.lease.job_id for one in told]) + "}",
        "leases": "{" + ",".join([str(one.lease.lease) for one in told]) + "}",
    }


def _arguments(service: str, told: Sequence[Told]) -> dict[str, Any]:
    return {
        **_leases(service, told),
        "kinds": [one.kind for one in told],
        "ats": [one.at for one in told],
        "delays": [one.delay_seconds for one in told],
        "errors": [_storable(one.error) for one in told],
    }


def _storable(error: str) -> str:
    # A handler may quote anything; what Postgres cannot store must not keep a whole batch from being written.
    return error[:LONGEST_ERROR].replace("\0", "").encode(errors="replace").decode()
