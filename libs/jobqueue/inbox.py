"""Keys of what was done already, for handlers whose effects must count once although jobs run at least once."""

from sqlalchemy import text

from libs.db import Database, Tx
from libs.jobqueue.job import UNSTORABLE, JobInvalid, Lease
from libs.principal import System

KEEP_DAYS = 30
LONGEST_KEY = 200
_PAGE = 1000
_PAGES = 100

_FIRST = text(
    "INSERT INTO jobs.inbox (service, key, job_id) VALUES (:service, :key, :job_id) ON CONFLICT DO NOTHING"
    " RETURNING key"
)
# Locking rows would take the right to change them; one replica at a time is as good.
_FORGET = text(
    """
    WITH old AS MATERIALIZED (
        SELECT ctid AS place FROM jobs.inbox WHERE service = :service
        AND made_at < clock_timestamp() - :days * interval '1 day' ORDER BY made_at LIMIT :page
    )
    DELETE FROM jobs.inbox WHERE ctid = ANY (ARRAY(SELECT place FROM old)) AND service = :service
    """
)
_MINE = text("SELECT pg_try_advisory_xact_lock(hashtextextended('jobs.inbox.' || :service, 0))")


async def first_time(tx: Tx, key: str, *, lease: Lease | None = None) -> bool:
    """Whether *key* is new to this service; from the end of *tx* on it is not, if *tx* commits with the effects that
    must happen once.

    While another transaction holds the same new key this one waits for its end: False if that commits, True if it rolls
    back. Keys are remembered for 30 days. key: up to 200 characters, such as the id of the message that caused the job;
    organizations share them, so one that an outsider can choose has to begin with the organization's id. lease: of the
    job at work, kept beside the key for whoever looks into it. Raises JobInvalid.
    """
    if not 0 < len(key) <= LONGEST_KEY or UNSTORABLE.search(key):
        raise JobInvalid(f"A key has 1 to {LONGEST_KEY} characters, none of them zero or half a one.")
    values = {"service": tx.service, "key": key, "job_id": lease.job_id if lease else ""}
    return bool((await tx.execute(_FIRST, values)).all())


async def forget(database: Database, service: str, *, page: int = _PAGE) -> int:
    """Remove the keys older than 30 days, page by page; returns how many. Nothing while another replica is at it."""
    removed = 0
    for _ in range(_PAGES):
        async with database.begin(System(service), pinned=True) as tx:
            if not (await tx.execute(_MINE, {"service": service})).scalar():
                break
            values = {"service": service, "days": KEEP_DAYS, "page": page}
            count = (await tx.execute(_FORGET, values)).rowcount
        removed += count
        if count < page:
            break
    return removed
