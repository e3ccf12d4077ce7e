"""Putting jobs: rows of the caller's transaction, so a job exists if and only if what it follows from does."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text

from libs import ids
from libs.db import Tx
from libs.jobqueue.job import MAX_ATTEMPTS, TIMEOUT_SECONDS, JobInvalid, encode, type_name
from libs.principal import Operator, Organization, User

LONGEST_UNIQUE = 200
PRIORITIES = range(-100, 101)

# The caller's ids are in `wanted`; what a unique index refuses is missing from `made`, and is looked up afterwards.
_PUT = text(
    """
    WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:types AS text[]), CAST(:payloads AS text[]),
                             CAST(:attempts AS integer[]), CAST(:timeouts AS double precision[])) WITH ORDINALITY
            AS wanted (id, type, payload, max_attempts, timeout_seconds, place)
    ), made AS (
        INSERT INTO jobs.jobs (id, service, type, payload, organization_id, user_id, actor, state, priority, unique_key,
                               run_at, max_attempts, timeout_seconds)
        SELECT id, :service, type, CAST(payload AS jsonb), :organization_id, :user_id, :actor,
               CASE WHEN CAST(:run_at AS timestamptz) > clock_timestamp() THEN 'scheduled' ELSE 'ready' END,
               :priority, :unique_key, coalesce(CAST(:run_at AS timestamptz), transaction_timestamp()),
               max_attempts, timeout_seconds
        FROM wanted ORDER BY place
        ON CONFLICT DO NOTHING RETURNING id, state
    ), hot AS (
        INSERT INTO jobs.ready (service, tenant, priority, job_id)
        SELECT :service, :organization_id, :priority, id FROM wanted JOIN made USING (id)
        WHERE state = 'ready' ORDER BY place
    )
    SELECT id, state FROM made
    """
)
_HOLDER = text(
    "SELECT id FROM jobs.jobs WHERE service = :service AND organization_id = :organization_id AND type = :type"
    " AND unique_key = :unique_key AND state IN ('scheduled', 'ready', 'running')"
)


async def put(tx: Tx, job: Any, *, run_at: datetime | None = None, priority: int = 0, unique: str = "") -> str:
    """Put *job* and return its id; it can be claimed once *tx* has committed, and not before *run_at* (aware).

    It works for the principal of *tx*. priority: -100 to 100, more is sooner within a tenant. unique: while an
    unfinished job of this type and organization holds the same key, that one's id is returned and nothing is put.
    Raises JobInvalid.
    """
    arguments = _arguments(tx, [job], run_at, priority, unique)
    for _ in range(3):
        made = (await tx.execute(_PUT, arguments)).all()
        if made:
            _wake(tx, made)
            return str(made[0].id)
        holder = (
            await tx.execute(_HOLDER, {**_owner(tx), "type": arguments["types"][0], "unique_key": unique})
        ).scalar()
        if holder is not None:
            return str(holder)
        # The holder has finished between the two statements, so the key is free again.
    raise JobInvalid("The unique key changed hands too often.")


async def put_many(tx: Tx, jobs: Sequence[Any], *, run_at: datetime | None = None, priority: int = 0) -> list[str]:
    """Put all of *jobs* in one statement and return their ids in order; see put."""
    if not jobs:
        return []
    arguments = _arguments(tx, jobs, run_at, priority, "")
    _wake(tx, (await tx.execute(_PUT, arguments)).all())
    found: list[str] = arguments["ids"]
    return found


def channel(service: str) -> str:
    """The channel on which *service*'s workers are woken."""
    return f"holdfast_jobs_{service}"


def _arguments(tx: Tx, jobs: Sequence[Any], run_at: datetime | None, priority: int, unique: str) -> dict[str, Any]:
    if priority not in PRIORITIES:
        raise JobInvalid("The priority has to be from -100 to 100.")
    if len(unique) > LONGEST_UNIQUE:
        raise JobInvalid(f"A unique key has at most {LONGEST_UNIQUE} characters.")
    if run_at is not None and run_at.tzinfo is None:
        raise JobInvalid("run_at has to carry its time zone.")
    kinds = [type(job) for job in jobs]
    return {
        **_owner(tx),
        "ids": [ids.new_id() for _ in jobs],
        "types": [type_name(kind) for kind in kinds],
        "payloads": [encode(job) for job in jobs],
        "attempts": [int(getattr(kind, "max_attempts", MAX_ATTEMPTS)) for kind in kinds],
        "timeouts": [float(getattr(kind, "timeout_seconds", TIMEOUT_SECONDS)) for kind in kinds],
        "run_at": run_at,
        "priority": priority,
        "unique_key": unique,
    }


def _owner(tx: Tx) -> dict[str, str]:
    organization, user, actor = "", "", ""
    match tx.principal:
        case User(organization_id=organization, user_id=user, actor=actor):
            pass
        case Organization(organization_id=organization):
            pass
        case Operator(operator_id=actor):
            pass
        case _:
            pass
    return {"service": tx.service, "organization_id": organization, "user_id": user, "actor": actor}


def _wake(tx: Tx, made: Sequence[Any]) -> None:
    if any(row.state == "ready" for row in made):
        tx.wake(channel(tx.service))
