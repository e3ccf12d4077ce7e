"""Holding every service's jobs after a restore, and letting them go again: functions that only backup may call.

While the guard is held, or the database is on another timeline than the recorded one, jobs.may_run() is false and
nothing is claimed. What had been put before the hold is quarantined, in pages; what comes afterwards only waits.
"""

from alembic import op

revision, down_revision = "0005", "0004"
branch_labels = depends_on = None

_DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_PINNED = "SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off"
# The first eight hexadecimal digits of a WAL file's name.
_TIMELINE = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer"


def upgrade() -> None:
    for statement in (_TOLD, _TURN, _QUARANTINE, _SWEEP, _RELEASE):
        op.execute(
            statement.replace("{definer}", _DEFINER).replace("{pinned}", _PINNED).replace("{timeline}", _TIMELINE)
        )
    for granted in (
        "guard_told()",
        "hold(text, text)",
        "accept_timeline(text, text)",
        "open_guard(text, text)",
        "quarantine(text, integer)",
        "sweep_ready(bigint)",
        "release_page(text, boolean, timestamptz, text, integer)",
    ):
        op.execute(f"GRANT EXECUTE ON FUNCTION jobs.{granted} TO holdfast_backup")


_TOLD = """
CREATE FUNCTION jobs.guard_told() RETURNS TABLE (state text, timeline integer, database_timeline integer,
    may_run boolean, reason text, changed_at timestamptz, changed_by text, quarantined bigint)
LANGUAGE sql STABLE {definer} {pinned} AS $$
    SELECT g.state, g.timeline, {timeline}, jobs.may_run(), g.reason, g.changed_at, g.changed_by,
        (SELECT count(*) FROM (SELECT FROM jobs.jobs WHERE state IN ('dead', 'quarantined') AND state = 'quarantined'
            LIMIT 10000) AS counted)
    FROM jobs.guard g
$$
"""

# Each answers whether the guard was turned. A hold that is repeated moves its moment, and with it what is quarantined.
_TURN = """
CREATE FUNCTION jobs.hold(why text, by_whom text) RETURNS boolean LANGUAGE sql {definer} AS $$
    WITH was AS (SELECT state FROM jobs.guard), held AS (
        UPDATE jobs.guard SET state = 'held', reason = why, changed_at = clock_timestamp(), changed_by = by_whom)
    SELECT state = 'open' FROM was
$$;
CREATE FUNCTION jobs.accept_timeline(why text, by_whom text) RETURNS boolean LANGUAGE sql {definer} AS $$
    WITH accepted AS (
        UPDATE jobs.guard SET timeline = {timeline}, reason = why, changed_at = clock_timestamp(), changed_by = by_whom
        WHERE state = 'open' AND timeline <> {timeline} RETURNING 1)
    SELECT EXISTS (SELECT FROM accepted)
$$;
CREATE FUNCTION jobs.open_guard(why text, by_whom text) RETURNS void LANGUAGE sql {definer} AS $$
    UPDATE jobs.guard SET state = 'open', timeline = {timeline}, reason = why, changed_at = clock_timestamp(),
        changed_by = by_whom
$$;
"""

# The last id looked at; NULL when there was no full page. Leases stay: what a late worker writes is stale, because the
# job does not run. The guard's row is locked, so opening it waits for the last page, and a later one finds it open.
_QUARANTINE = """
CREATE FUNCTION jobs.quarantine(after_id text, page integer) RETURNS text LANGUAGE sql {definer} {pinned} AS $$
    WITH hold AS MATERIALIZED (SELECT changed_at FROM jobs.guard WHERE state = 'held' FOR SHARE
    ), due AS MATERIALIZED (
        SELECT id FROM jobs.jobs WHERE id > after_id AND state IN ('scheduled', 'ready', 'running')
        AND created_at < (SELECT changed_at FROM hold) ORDER BY id LIMIT page FOR UPDATE
    ), moved AS (
        UPDATE jobs.jobs SET state = 'quarantined', finished_at = clock_timestamp(), worker_id = NULL,
            deadline_at = NULL
        WHERE id = ANY (ARRAY(SELECT id FROM due))
    )
    SELECT CASE WHEN count(*) = page THEN max(id) END FROM due
$$
"""

# Ready rows have no index by job, so they are looked at in the order they lie in; NULL at the end.
_SWEEP = """
CREATE FUNCTION jobs.sweep_ready(from_block bigint) RETURNS bigint LANGUAGE plpgsql {definer} SET jit = off AS $$
DECLARE
    until_block constant bigint := from_block + 200;
BEGIN
    DELETE FROM jobs.ready r USING jobs.jobs j WHERE r.ctid >= format('(%s,0)', from_block)::tid
    AND r.ctid < format('(%s,0)', until_block)::tid AND j.id = r.job_id AND j.state = 'quarantined';
    RETURN CASE WHEN until_block * current_setting('block_size')::bigint < pg_relation_size('jobs.ready')
        THEN until_block END;
END
$$
"""

# One row: what became of a page of quarantined jobs, and where the next one begins. A job whose unique key has been
# given to another since then becomes a dead letter: nothing is lost.
_RELEASE = """
CREATE FUNCTION jobs.release_page(of_service text, discard boolean, after_at timestamptz, after_id text, page integer)
RETURNS TABLE (looked integer, requeued integer, discarded integer, dead integer, at timestamptz, id text)
LANGUAGE plpgsql {definer} {pinned} AS $$
#variable_conflict use_column
DECLARE
    j jobs.jobs;
BEGIN
    looked := 0;
    requeued := 0;
    discarded := 0;
    dead := 0;
    FOR j IN SELECT * FROM jobs.jobs WHERE service = of_service AND state IN ('dead', 'quarantined')
        AND state = 'quarantined' AND (finished_at, id) > (after_at, after_id) ORDER BY finished_at, id LIMIT page
        FOR UPDATE LOOP
        looked := looked + 1;
        at := j.finished_at;
        id := j.id;
        IF discard THEN
            DELETE FROM jobs.jobs WHERE jobs.id = j.id;
            INSERT INTO jobs.history (id, service, queue, type, organization_id, user_id, outcome, lease, failures,
                crashes, created_at, claimed_at, error)
            VALUES (j.id, j.service, j.queue, j.type, j.organization_id, j.user_id, 'cancelled', j.lease, j.failures,
                j.crashes, j.created_at, j.claimed_at, 'given up after a restore');
            discarded := discarded + 1;
        ELSIF jobs.make_ready(j.id, false) THEN
            requeued := requeued + 1;
        ELSE
            UPDATE jobs.jobs SET state = 'dead', finished_at = clock_timestamp(),
                error = 'another job had its unique key after a restore' WHERE jobs.id = j.id;
            dead := dead + 1;
        END IF;
    END LOOP;
    RETURN NEXT;
END
$$
"""
