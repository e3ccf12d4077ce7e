"""Putting jobs: rows of the caller's transaction, so a job exists if and only if what it follows from does."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from libs import audit, ids
from libs.db import Tx
from libs.jobqueue import hot
from libs.jobqueue.job import UNSTORABLE, JobInvalid, encode, kind
from libs.principal import Operator, Organization, User

LONGEST_UNIQUE = 200
LONGEST_DELAY = timedelta(days=36_525)
MAX_BATCH_CHARACTERS = 32 * 1024 * 1024
"""Of all payloads put at once. Postgres would take a few times as much, and refuse more in words of its own."""
EARLIEST_YEAR, LATEST_YEAR = 1970, 9000
PRIORITIES = range(-100, 101)
CANCEL = "cancel"
"""Payload of the wake-up that makes workers ask at once which of their jobs are to end."""
When = datetime | timedelta | None

# What a unique index refuses is missing from `made`, and is looked up afterwards.
_PUT = text(
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT * FROM ROWS FROM (unnest(CAST(:ids AS text[])), unnest(CAST(:kinds AS smallint[])),
                                 jsonb_array_elements(CAST(:payloads AS jsonb)))
            WITH ORDINALITY AS wanted (id, kind, payload, place)
    ), kinds AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:types AS text[]), CAST(:queues AS text[]), CAST(:attempts AS integer[]),
                             CAST(:timeouts AS double precision[])) WITH ORDINALITY
            AS kinds (type, queue, max_attempts, timeout_seconds, kind)
    ), moment AS MATERIALIZED (
        SELECT coalesce(CAST(:run_at AS timestamptz),
            clock_timestamp() + CAST(:after AS double precision) * interval '1 second', transaction_timestamp()) AS at
    ), made AS (
        INSERT INTO jobs.jobs (id, service, queue, type, payload, organization_id, user_id, actor, state, priority,
                               unique_key, run_at, max_attempts, timeout_seconds)
        SELECT id, :service, queue, type, payload, :organization_id, :user_id, :actor,
               CASE WHEN at > clock_timestamp() THEN 'scheduled' ELSE 'ready' END,
               :priority, :unique_key, at, max_attempts, timeout_seconds
        FROM wanted JOIN kinds USING (kind) CROSS JOIN moment ORDER BY place
        ON CONFLICT DO NOTHING RETURNING id, state, service, queue, organization_id, priority
    ), {hot.INSERT.format(source="made WHERE state = 'ready'")}
    SELECT id, state FROM made
    """  # noqa: S608 - only constants of this module are put together
)
_HOLDER = text(
    "SELECT id FROM jobs.jobs WHERE service = :service AND organization_id = :organization_id AND type = :type"
    " AND unique_key = :unique_key AND state IN ('scheduled', 'ready', 'running')"
)


async def put(tx: Tx, job: Any, *, run_at: When = None, priority: int = 0, unique: str = "") -> str:
    """Put *job* and return its id; it can be claimed once *tx* has committed, and not before *run_at*: an aware time,
    or how long from now by the database's clock.

    It works for the principal of *tx*. priority: -100 to 100, more is sooner within a tenant. unique: while an
    unfinished job of this type and organization holds the same key, that one's id is returned and nothing is put. A
    running job holds its key until its end: it cannot put its own successor under it, and may have read what it works
    on before *tx* wrote. Raises JobInvalid.
    """
    arguments = _arguments(tx, [ids.new_id()], [job], run_at, priority, unique)
    for _ in range(3):
        made = (await tx.execute(_PUT, arguments)).all()
        if made:
            await _put(tx, made, {made[0].id: job})
            return str(made[0].id)
        holder = (
            await tx.execute(_HOLDER, {**_owner(tx), "type": kind(type(job)).name, "unique_key": unique})
        ).scalar()
        if holder is not None:
            return str(holder)
        # The holder has finished between the two statements, so the key is free again.
    raise JobInvalid("The unique key changed hands too often.")


async def put_many(tx: Tx, jobs: Sequence[Any], *, run_at: When = None, priority: int = 0) -> list[str]:
    """Put all of *jobs*, up to 32 MiB of them, in one statement and return their ids in order; see put."""
    if not jobs:
        return []
    made = [ids.new_id() for _ in jobs]
    rows = (await tx.execute(_PUT, _arguments(tx, made, jobs, run_at, priority, ""))).all()
    await _put(tx, rows, dict(zip(made, jobs, strict=True)))
    return made


def channel(service: str) -> str:
    """The channel on which *service*'s workers are woken."""
    return f"holdfast_jobs_{service}"


def _arguments(
    tx: Tx, made: Sequence[str], jobs: Sequence[Any], run_at: When, priority: int, unique: str
) -> dict[str, Any]:
    if type(priority) is not int or priority not in PRIORITIES:
        raise JobInvalid("The priority has to be a whole number from -100 to 100.")
    if not isinstance(unique, str) or len(unique) > LONGEST_UNIQUE or UNSTORABLE.search(unique):
        raise JobInvalid(f"A unique key has at most {LONGEST_UNIQUE} characters, none of them zero or half a one.")
    places: dict[type[Any], int] = {}
    which = [places.setdefault(type(job), len(places) + 1) for job in jobs]
    kinds = [kind(found) for found in places]
    payloads = ",".join(map(encode, jobs))
    if len(payloads) > MAX_BATCH_CHARACTERS:
        raise JobInvalid(f"Jobs put at once hold at most {MAX_BATCH_CHARACTERS} characters: put them in parts.")
    return {
        **_owner(tx),
        **_when(run_at),
        # Written as literals: ids are ours and numbers need no quoting, and the driver would examine each element.
        "ids": "{" + ",".join(made) + "}",
        "kinds": "{" + ",".join(map(str, which)) + "}",
        "payloads": f"[{payloads}]",
        "types": [found.name for found in kinds],
        "queues": [found.queue for found in kinds],
        "attempts": [found.max_attempts for found in kinds],
        "timeouts": [found.timeout_seconds for found in kinds],
        "priority": priority,
        "unique_key": unique,
    }


def _when(run_at: When) -> dict[str, Any]:
    match run_at:
        case timedelta():
            if run_at < timedelta(0):
                raise JobInvalid("A job cannot be put for before now: run_at is a negative length of time.")
            if run_at > LONGEST_DELAY:
                raise JobInvalid("A job can wait for 100 years at most.")
            return {"run_at": None, "after": run_at.total_seconds()}
        case datetime(tzinfo=None):
            raise JobInvalid("run_at has to carry its time zone.")
        case datetime() if not EARLIEST_YEAR <= run_at.year <= LATEST_YEAR:
            raise JobInvalid(f"run_at has to lie between the years {EARLIEST_YEAR} and {LATEST_YEAR}.")
        case datetime() | None:
            return {"run_at": run_at, "after": None}
        case _:
            raise JobInvalid("run_at has to be a datetime, a timedelta or None.")


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


async def _put(tx: Tx, made: Sequence[Any], jobs: Mapping[str, Any]) -> None:
    """Wake workers, and leave an audit entry of each job whose type asks for it. jobs: by id."""
    if any(row.state == "ready" for row in made):
        tx.wake(channel(tx.service))
    asked = {id_: kind(type(job)).name for id_, job in jobs.items() if kind(type(job)).audited}
    for row in made:
        if row.id in asked:
            await audit.record(tx, "job.put", job=row.id, type=asked[row.id], new_state=row.state)
