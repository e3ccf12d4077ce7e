"""Making jobs claimable: a ready row each, and a lane for those whose lane is not listed yet."""

INSERT = """
    hot AS (
        INSERT INTO jobs.ready (service, queue, tenant, priority, job_id)
        SELECT service, queue, organization_id, priority, id FROM {source}
        RETURNING service, queue, tenant, priority
    ), opened AS (
        INSERT INTO jobs.lanes (service, queue, tenant, priority)
        SELECT DISTINCT service, queue, tenant, priority FROM hot h WHERE NOT EXISTS (
            SELECT FROM jobs.lanes l WHERE l.service = h.service AND l.queue = h.queue AND l.tenant = h.tenant
            AND l.priority = h.priority)
    )"""
"""Two common table expressions. {source}: gives service, queue, organization_id, priority and id, in order."""
