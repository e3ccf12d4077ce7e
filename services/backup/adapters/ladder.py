"""What a drill asks of a copy's data: facts only; services.backup.domain.ladder judges them.

Every scan reads the tables themselves: the planner is told not to use an index, for a damaged one would vouch for what
it misses. Source: PostgreSQL manual, pg_constraint, pg_depend, pg_stat_activity.
"""

from datetime import datetime

from services.backup.adapters import release
from services.backup.adapters.copy import Copy
from services.backup.adapters.rung import rung
from services.backup.domain import ladder, mark
from services.backup.domain.drill import Check
from services.backup.domain.mark import Mark
from services.backup.domain.plan import Plan

_HEAPS_ONLY = (
    "SET search_path = ''",
    "SET enable_indexscan = off",
    "SET enable_indexonlyscan = off",
    "SET enable_bitmapscan = off",
)
_AS_BEFORE = ("RESET enable_indexscan", "RESET enable_indexonlyscan", "RESET enable_bitmapscan")
# One statement for each foreign key: rows that name a parent which is not there.
_FOREIGN_KEYS = """
SELECT k.conrelid::regclass || '.' || k.conname,
       format('SELECT count(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)',
              k.conrelid::regclass, string_agg(format('c.%I IS NOT NULL', child.attname), ' AND '),
              k.confrelid::regclass, string_agg(format('p.%I = c.%I', parent.attname, child.attname), ' AND '))
  FROM pg_constraint k
 CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS pair (child, parent)
  JOIN pg_attribute child ON child.attrelid = k.conrelid AND child.attnum = pair.child
  JOIN pg_attribute parent ON parent.attrelid = k.confrelid AND parent.attnum = pair.parent
 WHERE k.contype = 'f' AND k.conparentid = 0
 GROUP BY k.oid ORDER BY 1
"""
# One statement for each sequence that feeds a column: (last value, largest value in the column).
_SEQUENCES = """
SELECT d.objid::regclass::text,
       format('SELECT (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM %s),'
              ' (SELECT coalesce(max(%I), 0) FROM %s)', d.objid::regclass, a.attname, d.refobjid::regclass)
  FROM pg_depend d
  JOIN pg_sequence s ON s.seqrelid = d.objid AND s.seqincrement > 0
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
 ORDER BY 1
"""
_REVISIONS = """
SELECT n.nspname, format('SELECT version_num FROM %I.alembic_version', n.nspname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'alembic_version' ORDER BY 1
"""
_JOBS = """
SELECT (SELECT count(*) FROM jobs.jobs WHERE state IN ('scheduled', 'ready', 'running')),
       (SELECT count(*) FROM jobs.jobs WHERE claimed_at > pg_postmaster_start_time()),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())
"""


_GUARDED = "SELECT to_regprocedure('jobs.may_run()') IS NOT NULL"
_MAY_RUN = "SELECT jobs.may_run()"
_MARKED = "SELECT to_regclass('backup.marks') IS NOT NULL"
_MARK = "SELECT heartbeat, created_at, tenants, signature FROM backup.marks ORDER BY heartbeat DESC LIMIT 1"
_BELOW = """
SELECT m.tenant FROM unnest(%s::text[], %s::text[]) AS m (tenant, value)
 WHERE NOT EXISTS (SELECT FROM {table} t WHERE {reached}) ORDER BY 1 LIMIT 20
"""
_OF_TENANT = "t.organization_id = split_part(m.tenant, '/', 1) AND t.user_id = split_part(m.tenant, '/', 2)"
_REACHED = {
    "event_offset": ("events.streams", f"{_OF_TENANT} AND t.newest_offset >= m.value::bigint"),
    "file_version": ("files.versions", f"{_OF_TENANT} AND t.id = m.value"),
    "audit_entry": ("audit.entries", "t.id = m.value"),
}


class Ladder:
    """Asks one copy about its data. key: of the marks' signatures."""

    def __init__(self, copy: Copy, key: bytes) -> None:
        self._copy = copy
        self._key = key

    async def checks(self, plan: Plan, newest_beat: datetime | None) -> list[Check]:
        """Every check in order, each with its time. newest_beat: when the copy's newest heartbeat was written."""
        for setting in _HEAPS_ONLY:
            await self._copy.ask(setting)
        found = [
            ladder.backup_pages(plan.damaged),
            await rung("migrations", lambda: self._migrations(plan)),
            await rung("foreign_keys", self._foreign_keys),
            await rung("sequences", self._sequences),
            await rung("high_water", lambda: self._high_water(newest_beat)),
            await rung("jobs_still", self._jobs),
        ]
        for setting in _AS_BEFORE:
            await self._copy.ask(setting)
        return found

    async def _migrations(self, plan: Plan) -> Check:
        statements = await self._copy.ask(_REVISIONS)
        found = {schema: "".join(str(row[0]) for row in await self._copy.ask(query)) for schema, query in statements}
        return ladder.migrations(found, release.revisions(), newest=plan.to_the_end)

    async def _foreign_keys(self) -> Check:
        statements = await self._copy.ask(_FOREIGN_KEYS)
        return ladder.foreign_keys({name: (await self._copy.ask(query))[0][0] for name, query in statements})

    async def _sequences(self) -> Check:
        found = {}
        for name, query in await self._copy.ask(_SEQUENCES):
            last, most = (await self._copy.ask(query))[0]
            found[name] = (last, most)
        return ladder.sequences(found)

    async def _high_water(self, newest_beat: datetime | None) -> Check:
        there = (await self._copy.ask(_MARKED))[0][0]
        rows = await self._copy.ask(_MARK) if there else []
        newest = Mark(*rows[0]) if rows else None
        below = {}
        for kind, tenants in (newest.tenants if newest else {}).items():
            table, reached = _REACHED[kind]
            query = _BELOW.format(table=table, reached=reached)
            found = await self._copy.ask(query, [list(tenants), list(tenants.values())])
            below[kind] = [tenant for (tenant,) in found]
        return mark.judge(newest, self._key, below=below, newest_beat=newest_beat)

    async def _jobs(self) -> Check:
        guarded = (await self._copy.ask(_GUARDED))[0][0]
        may_run = bool((await self._copy.ask(_MAY_RUN))[0][0]) if guarded else None
        return ladder.jobs(*(await self._copy.ask(_JOBS))[0], may_run=may_run)
