"""What an operator may see of every service's jobs and do with them: functions of the owner that only backup may call.

They lock jobs as everybody does, never touch a lease, and leave behind what a claim drops: a ready row whose job is not
ready. What they answer is bounded, and so is what they look at to find it.
"""

from alembic import op

from libs.db.grants import SERVICES, runtime_role
from libs.db.policies import OWNER

revision, down_revision = "0004", "0003"
branch_labels = depends_on = None

_ROLES = ", ".join(runtime_role(service) for service in SERVICES)
_DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
# Counts of a queue change faster than statistics can follow.
_PINNED = "SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off"
_NEEDED = ("jobs", "ready", "lanes", "history", "workers", "queues")


def upgrade() -> None:
    for table in _NEEDED:
        op.execute(f"CREATE POLICY {table}_operator ON jobs.{table} TO {OWNER} USING (true) WITH CHECK (true)")
    op.execute("ALTER TABLE jobs.workers ADD COLUMN queue text NOT NULL DEFAULT 'default'")
    # Days of history are written in the order of their times, so an index of a page in a hundred finds an hour.
    op.execute("CREATE INDEX history_times ON jobs.history USING brin (finished_at) WITH (autosummarize = on)")
    for statement in (_TOLD, _LIST, _GET, _MAKE_READY, _RETRY, _RETRY_PAGE, _CANCEL, _QUEUES, _FIGURES):
        op.execute(statement.replace("{definer}", _DEFINER).replace("{pinned}", _PINNED))
    for granted in _GRANTED:
        op.execute(f"GRANT EXECUTE ON FUNCTION jobs.{granted} TO holdfast_backup")
    op.execute(f"GRANT EXECUTE ON FUNCTION jobs.figures(text) TO {_ROLES}")


_GRANTED = (
    "list_jobs(text[], text, text, text, timestamptz, text, integer)",
    "get_job(text, timestamptz, boolean)",
    "retry_job(text)",
    "retry_page(text, text, text, text, timestamptz, text, integer)",
    "cancel_job(text)",
    "pause_queue(text, text, text, text)",
    "resume_queue(text, text)",
    "queue_figures(text[])",
)

_TOLD = """
CREATE FUNCTION jobs.told(j jobs.jobs) RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object('id', j.id, 'service', j.service, 'queue', j.queue, 'type', j.type, 'state', j.state,
    'organization_id', j.organization_id, 'user_id', j.user_id, 'priority', j.priority, 'unique_key', j.unique_key,
    'failures', j.failures, 'max_attempts', j.max_attempts, 'crashes', j.crashes, 'lease', j.lease,
    'worker_id', coalesce(j.worker_id, ''), 'error', j.error, 'created_at', j.created_at, 'run_at', j.run_at,
    'claimed_at', j.claimed_at, 'deadline_at', j.deadline_at, 'finished_at', j.finished_at,
    'cancelled_at', j.cancel_requested_at);

CREATE FUNCTION jobs.told(h jobs.history) RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object('id', h.id, 'service', h.service, 'queue', h.queue, 'type', h.type, 'state', h.outcome,
    'organization_id', h.organization_id, 'user_id', h.user_id, 'failures', h.failures, 'crashes', h.crashes,
    'lease', h.lease, 'error', h.error, 'created_at', h.created_at, 'claimed_at', h.claimed_at,
    'finished_at', h.finished_at);
"""

# A row without a job tells how far was looked: go on from there.
_LIST = """
CREATE FUNCTION jobs.list_jobs(of_services text[], of_queue text, of_type text, of_state text, after_at timestamptz,
    after_id text, page integer) RETURNS TABLE (job jsonb, at timestamptz, id text)
LANGUAGE plpgsql {definer} {pinned} AS $$
#variable_conflict use_column
DECLARE
    looked constant integer := 20000;
    began constant timestamptz := clock_timestamp();
    late timestamptz := least(after_at, began + interval '1 minute');
    span interval := interval '1 minute';
    early timestamptz;
    more integer;
    found_so_far integer := 0;
BEGIN
    IF of_state IN ('', 'ready') THEN
        RETURN QUERY SELECT jobs.told(f.j), NULL::timestamptz, (f.j).id FROM (
            SELECT j FROM jobs.jobs j WHERE j.id < after_id ORDER BY j.id DESC LIMIT looked) AS f
        WHERE (f.j).service = ANY (of_services) AND of_queue IN ('', (f.j).queue) AND of_type IN ('', (f.j).type)
        AND of_state IN ('', (f.j).state) LIMIT page;
        GET DIAGNOSTICS found_so_far = ROW_COUNT;
        IF found_so_far < page THEN
            RETURN QUERY SELECT NULL::jsonb, NULL::timestamptz, j.id FROM jobs.jobs j WHERE j.id < after_id
            ORDER BY j.id DESC LIMIT 1 OFFSET looked - 1;
        END IF;
    ELSIF of_state = 'running' THEN
        RETURN QUERY SELECT jobs.told(j), j.claimed_at, j.id FROM jobs.jobs j WHERE j.state = 'running'
        AND j.service = ANY (of_services) AND of_queue IN ('', j.queue) AND of_type IN ('', j.type)
        AND (j.claimed_at, j.id) > (after_at, after_id) ORDER BY j.claimed_at, j.id LIMIT page;
    ELSIF of_state = 'scheduled' THEN
        RETURN QUERY SELECT jobs.told(f.j), (f.j).run_at, (f.j).id FROM unnest(of_services) AS s (service)
        CROSS JOIN LATERAL (
            SELECT j FROM jobs.jobs j WHERE j.service = s.service AND j.state = 'scheduled'
            AND of_queue IN ('', j.queue) AND of_type IN ('', j.type) AND (j.run_at, j.id) > (after_at, after_id)
            ORDER BY j.run_at, j.id LIMIT page) AS f
        ORDER BY (f.j).run_at, (f.j).id LIMIT page;
    ELSIF of_state IN ('dead', 'quarantined') THEN
        RETURN QUERY SELECT jobs.told(f.j), (f.j).finished_at, (f.j).id FROM unnest(of_services) AS s (service)
        CROSS JOIN LATERAL (
            SELECT j FROM jobs.jobs j WHERE j.service = s.service AND j.state IN ('dead', 'quarantined')
            AND j.state = of_state AND of_queue IN ('', j.queue) AND of_type IN ('', j.type)
            AND (j.finished_at, j.id) < (after_at, after_id) ORDER BY j.finished_at DESC, j.id DESC LIMIT page) AS f
        ORDER BY (f.j).finished_at DESC, (f.j).id DESC LIMIT page;
    ELSE
        WHILE found_so_far < page AND late > began - interval '60 days' LOOP
            early := late - span;
            RETURN QUERY SELECT jobs.told(h), h.finished_at, h.id FROM jobs.history h
            WHERE h.finished_at >= early AND h.finished_at <= late AND (h.finished_at, h.id) < (after_at, after_id)
            AND (h.finished_at < late OR late = after_at) AND h.outcome = of_state AND h.service = ANY (of_services)
            AND of_queue IN ('', h.queue) AND of_type IN ('', h.type)
            ORDER BY h.finished_at DESC, h.id DESC LIMIT page - found_so_far;
            GET DIAGNOSTICS more = ROW_COUNT;
            found_so_far := found_so_far + more;
            late := early;
            span := least(span * 4, interval '1 day');
            IF found_so_far < page AND clock_timestamp() > began + interval '1 second' THEN
                RETURN QUERY SELECT NULL::jsonb, late, ''::text;
                RETURN;
            END IF;
        END LOOP;
    END IF;
END
$$
"""

# Finished jobs have no index by id, but an id says when it was made, and most jobs end soon after.
_GET = """
CREATE FUNCTION jobs.get_job(of_id text, about timestamptz, with_payload boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE {definer} SET jit = off AS $$
DECLARE
    found jsonb;
    span interval := interval '1 minute';
BEGIN
    SELECT jobs.told(j) || CASE WHEN with_payload THEN jsonb_build_object('payload', j.payload, 'progress', j.progress)
        ELSE '{}' END INTO found FROM jobs.jobs j WHERE j.id = of_id;
    WHILE found IS NULL LOOP
        SELECT jobs.told(h) INTO found FROM jobs.history h
        WHERE h.id = of_id AND h.finished_at BETWEEN about - span AND about + span;
        EXIT WHEN about + span > clock_timestamp() AND span > interval '1 day';
        span := span * 8;
    END LOOP;
    RETURN found;
END
$$
"""

# For functions that have locked the job. False when another unfinished job has its unique key.
_MAKE_READY = """
CREATE FUNCTION jobs.make_ready(of_id text, afresh boolean) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp {pinned} AS $$
DECLARE
    j jobs.jobs;
BEGIN
    UPDATE jobs.jobs SET run_at = CASE WHEN afresh THEN clock_timestamp() ELSE run_at END,
        state = CASE WHEN afresh OR run_at <= clock_timestamp() THEN 'ready' ELSE 'scheduled' END,
        failures = CASE WHEN afresh THEN 0 ELSE failures END, crashes = CASE WHEN afresh THEN 0 ELSE crashes END,
        finished_at = NULL, worker_id = NULL, deadline_at = NULL, cancel_requested_at = NULL
    WHERE id = of_id RETURNING * INTO j;
    IF j.state = 'ready' THEN
        INSERT INTO jobs.ready (service, queue, tenant, priority, job_id)
        VALUES (j.service, j.queue, j.organization_id, j.priority, j.id);
        INSERT INTO jobs.lanes (service, queue, tenant, priority)
        SELECT j.service, j.queue, j.organization_id, j.priority WHERE NOT EXISTS (
            SELECT FROM jobs.lanes l WHERE l.service = j.service AND l.queue = j.queue
            AND l.tenant = j.organization_id AND l.priority = j.priority);
    END IF;
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RETURN false;
END
$$
"""

_RETRY = """
CREATE FUNCTION jobs.retry_job(of_id text) RETURNS TABLE (outcome text, job jsonb, holder text)
LANGUAGE plpgsql {definer} AS $$
DECLARE
    j jobs.jobs;
BEGIN
    SELECT * INTO j FROM jobs.jobs WHERE id = of_id FOR UPDATE;
    IF j.id IS NULL THEN
        RETURN;
    ELSIF j.state NOT IN ('dead', 'scheduled') THEN
        RETURN QUERY SELECT 'unfit', jobs.told(j), '';
    ELSIF jobs.make_ready(j.id, true) THEN
        RETURN QUERY SELECT 'ready', jobs.told(k), '' FROM jobs.jobs k WHERE k.id = of_id;
    ELSE
        RETURN QUERY SELECT 'taken', jobs.told(j), coalesce((SELECT k.id FROM jobs.jobs k
            WHERE k.service = j.service AND k.organization_id = j.organization_id AND k.type = j.type
            AND k.unique_key = j.unique_key AND k.state IN ('scheduled', 'ready', 'running')), '');
    END IF;
END
$$
"""

# One row: how many were looked at and made ready, and where the next page begins.
_RETRY_PAGE = """
CREATE FUNCTION jobs.retry_page(of_service text, of_queue text, of_type text, of_state text, after_at timestamptz,
    after_id text, page integer) RETURNS TABLE (looked integer, retried integer, at timestamptz, id text)
LANGUAGE plpgsql {definer} {pinned} AS $$
#variable_conflict use_column
DECLARE
    due refcursor;
BEGIN
    looked := 0;
    retried := 0;
    IF of_state = 'dead' THEN
        OPEN due FOR SELECT j.finished_at, j.id FROM jobs.jobs j WHERE j.service = of_service
            AND j.state IN ('dead', 'quarantined') AND j.state = 'dead' AND of_queue IN ('', j.queue)
            AND of_type IN ('', j.type) AND (j.finished_at, j.id) > (after_at, after_id)
            ORDER BY j.finished_at, j.id LIMIT page FOR UPDATE SKIP LOCKED;
    ELSE
        OPEN due FOR SELECT j.run_at, j.id FROM jobs.jobs j WHERE j.service = of_service AND j.state = 'scheduled'
            AND of_queue IN ('', j.queue) AND of_type IN ('', j.type) AND (j.run_at, j.id) > (after_at, after_id)
            ORDER BY j.run_at, j.id LIMIT page FOR UPDATE SKIP LOCKED;
    END IF;
    LOOP
        FETCH due INTO after_at, after_id;
        EXIT WHEN NOT FOUND;
        looked := looked + 1;
        retried := retried + jobs.make_ready(after_id, true)::integer;
        at := after_at;
        id := after_id;
    END LOOP;
    RETURN NEXT;
END
$$
"""

# No row when no unfinished job has the id.
_CANCEL = """
CREATE FUNCTION jobs.cancel_job(of_id text) RETURNS TABLE (outcome text, job jsonb)
LANGUAGE plpgsql {definer} AS $$
DECLARE
    j jobs.jobs;
    h jobs.history;
BEGIN
    SELECT * INTO j FROM jobs.jobs WHERE id = of_id FOR UPDATE;
    IF j.id IS NULL THEN
        RETURN;
    ELSIF j.state = 'running' THEN
        UPDATE jobs.jobs SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()) WHERE id = of_id
        RETURNING * INTO j;
        RETURN QUERY SELECT 'asked', jobs.told(j);
    ELSE
        DELETE FROM jobs.jobs WHERE id = of_id;
        INSERT INTO jobs.history (id, service, queue, type, organization_id, user_id, outcome, lease, failures, crashes,
            created_at, claimed_at, error)
        VALUES (j.id, j.service, j.queue, j.type, j.organization_id, j.user_id, 'cancelled', j.lease, j.failures,
            j.crashes, j.created_at, j.claimed_at, j.error) RETURNING * INTO h;
        RETURN QUERY SELECT 'ended', jobs.told(h);
    END IF;
END
$$
"""

_QUEUES = """
CREATE FUNCTION jobs.pause_queue(of_service text, of_queue text, by_whom text, why text) RETURNS void
LANGUAGE sql {definer} AS $$
    INSERT INTO jobs.queues AS q (service, queue, paused_at, paused_by, reason)
    VALUES (of_service, of_queue, clock_timestamp(), by_whom, why)
    ON CONFLICT (service, queue) DO UPDATE SET paused_at = coalesce(q.paused_at, excluded.paused_at),
        paused_by = excluded.paused_by, reason = excluded.reason
$$;
CREATE FUNCTION jobs.resume_queue(of_service text, of_queue text) RETURNS boolean LANGUAGE sql {definer} AS $$
    WITH gone AS (DELETE FROM jobs.queues WHERE service = of_service AND queue = of_queue RETURNING 1)
    SELECT EXISTS (SELECT FROM gone)
$$;
"""

# figures has its caller's rights: a service counts its own rows for its metrics, the owner those of any service.
_FIGURES = """
CREATE FUNCTION jobs.figures(of_service text) RETURNS TABLE (service text, queue text, ready bigint, running bigint,
    scheduled bigint, dead bigint, oldest_ready_seconds double precision, workers bigint, paused_at timestamptz,
    paused_by text, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp {pinned} AS $$
    WITH running AS MATERIALIZED (
        SELECT queue, count(*) AS jobs FROM (SELECT queue FROM jobs.jobs WHERE state = 'running'
            AND service = of_service LIMIT 10000) AS counted GROUP BY queue
    ), scheduled AS MATERIALIZED (
        SELECT queue, count(*) AS jobs FROM (SELECT queue FROM jobs.jobs WHERE state = 'scheduled'
            AND service = of_service ORDER BY run_at DESC, id DESC LIMIT 10000) AS counted GROUP BY queue
    ), dead AS MATERIALIZED (
        SELECT queue, count(*) AS jobs FROM (SELECT queue FROM jobs.jobs WHERE state IN ('dead', 'quarantined')
            AND state = 'dead' AND service = of_service ORDER BY finished_at DESC, id DESC LIMIT 10000) AS counted
        GROUP BY queue
    ), workers AS MATERIALIZED (
        SELECT queue, count(*) AS alive FROM jobs.workers WHERE service = of_service
        AND beat_at > clock_timestamp() - interval '40 seconds' GROUP BY queue
    ), names AS (
        SELECT queue FROM running UNION SELECT queue FROM scheduled UNION SELECT queue FROM dead
        UNION SELECT queue FROM workers UNION SELECT queue FROM jobs.queues WHERE service = of_service
        UNION SELECT queue FROM jobs.lanes WHERE service = of_service
    )
    SELECT of_service, n.queue,
        (SELECT count(*) FROM (SELECT FROM jobs.ready WHERE service = of_service AND queue = n.queue LIMIT 10000) AS r),
        coalesce(running.jobs, 0), coalesce(scheduled.jobs, 0), coalesce(dead.jobs, 0),
        (SELECT extract(epoch FROM clock_timestamp() - min(j.run_at))::double precision FROM (
            SELECT DISTINCT tenant, priority FROM jobs.lanes WHERE service = of_service AND queue = n.queue LIMIT 1000
            ) AS l CROSS JOIN LATERAL (
            SELECT r.job_id FROM jobs.ready r WHERE r.service = of_service AND r.queue = n.queue
            AND r.tenant = l.tenant AND r.priority = l.priority ORDER BY r.position LIMIT 1) AS head
            JOIN jobs.jobs j ON j.id = head.job_id),
        coalesce(workers.alive, 0), q.paused_at, coalesce(q.paused_by, ''), coalesce(q.reason, '')
    FROM names n LEFT JOIN running USING (queue) LEFT JOIN scheduled USING (queue) LEFT JOIN dead USING (queue)
    LEFT JOIN workers USING (queue) LEFT JOIN jobs.queues q ON q.service = of_service AND q.queue = n.queue
$$;
CREATE FUNCTION jobs.queue_figures(of_services text[]) RETURNS TABLE (service text, queue text, ready bigint,
    running bigint, scheduled bigint, dead bigint, oldest_ready_seconds double precision, workers bigint,
    paused_at timestamptz, paused_by text, reason text)
LANGUAGE sql STABLE {definer} AS $$
    SELECT f.* FROM unnest(of_services) AS s (service) CROSS JOIN LATERAL jobs.figures(s.service) AS f ORDER BY 1, 2
$$;
"""
