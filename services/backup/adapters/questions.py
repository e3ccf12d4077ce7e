"""What a drill asks of a restored copy: facts only; services.backup.domain.verdict judges them."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from services.backup.adapters import command
from services.backup.adapters.copy import Copy
from services.backup.adapters.isolation import Isolation
from services.backup.adapters.rung import rung
from services.backup.domain import verdict
from services.backup.domain.drill import Check, not_made
from services.backup.domain.heartbeat import Beat
from services.backup.domain.plan import Plan
from services.backup.domain.verdict import Recovered

_PROBE = Path(__file__).with_name("probe.py")
_PROBE_SECONDS = 30.0
_NEWEST = 5000

_RECOVERED = """
SELECT pg_is_in_recovery(), pg_last_xact_replay_timestamp(), pg_last_wal_replay_lsn()::text,
       (SELECT timeline_id FROM pg_control_checkpoint())
"""
_BEATS = """
SELECT sequence, created_at, lsn::text, timeline, wal, signature
  FROM (SELECT * FROM backup.heartbeats ORDER BY sequence DESC LIMIT %s) newest ORDER BY sequence
"""
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname), obj_description(c.oid, 'pg_class'),
       c.relrowsecurity, c.relforcerowsecurity
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND obj_description(c.oid, 'pg_class') LIKE 'scope: %'
   -- A partition is judged by its parent, unless somebody may reach it past the parent.
   AND NOT (c.relispartition AND NOT EXISTS (
       SELECT FROM pg_roles r WHERE r.rolname ~ '^holdfast_(auth|files|events|backup)$'
          AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')))
"""
_POWERS = """
SELECT r.rolname, array_remove(ARRAY[
           CASE WHEN r.rolsuper THEN 'is superuser' END,
           CASE WHEN r.rolbypassrls THEN 'bypasses row-level security' END,
           CASE WHEN r.rolcreaterole THEN 'may create roles' END,
           CASE WHEN r.rolcreatedb THEN 'may create databases' END,
           CASE WHEN r.rolreplication THEN 'may replicate' END,
           CASE WHEN has_database_privilege(r.oid, current_database(), 'CREATE') THEN 'may create schemas' END
       ] || ARRAY(SELECT format('may create in schema %s', n.nspname) FROM pg_namespace n
                   WHERE n.nspname !~ '^pg_' AND has_schema_privilege(r.oid, n.oid, 'CREATE'))
         || ARRAY(SELECT format('owns %s.%s', n.nspname, c.relname) FROM pg_class c
                    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relowner = r.oid LIMIT 3), NULL)
  FROM pg_roles r
 WHERE r.rolname IN ('holdfast_auth', 'holdfast_files', 'holdfast_events', 'holdfast_backup')
"""
_ARCHIVING = """
SELECT current_setting('archive_mode'), current_setting('archive_command'), pg_walfile_name(pg_switch_wal()),
       (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
       (SELECT archived_count FROM pg_stat_archiver)
"""


class Questions:
    """Asks one copy. key: of heartbeat signatures. outside: targets of probe.py that a shut-in copy must not reach."""

    def __init__(self, copy: Copy, isolation: Isolation, *, key: bytes, outside: Sequence[str]) -> None:
        self._copy = copy
        self._isolation = isolation
        self._key = key
        self._outside = tuple(outside)

    async def recovered(self) -> Recovered:
        """What the copy says of its recovery, and every heartbeat in it."""
        asked = await self._copy.ask(_RECOVERED)
        in_recovery, last, lsn, timeline = asked[0]
        beats = tuple(Beat(*row) for row in await self._copy.ask(_BEATS, [_NEWEST]))
        return Recovered(beats, in_recovery, last, lsn or "", timeline, self._copy.log())

    async def checks(self, plan: Plan, seen: Recovered) -> list[Check]:
        """Every check in order, each with its time."""
        found = [
            verdict.heartbeats(plan, seen, self._key),
            verdict.recovery(plan, seen),
            await rung("row_level_security", self._row_level_security),
            await rung("runtime_roles", self._runtime_roles),
            await rung("archiving_off", self._archiving_off),
        ]
        if self._isolation.networkless:
            found += await self._reach()
        return found

    async def _row_level_security(self) -> Check:
        rows = await self._copy.ask(_TABLES)
        tables = {name: (comment.removeprefix("scope: "), on, forced) for name, comment, on, forced in rows}
        return verdict.row_level_security(tables)

    async def _runtime_roles(self) -> Check:
        return verdict.runtime_roles(dict(await self._copy.ask(_POWERS)))

    async def _archiving_off(self) -> Check:
        return verdict.archiving(*(await self._copy.ask(_ARCHIVING))[0])

    async def _reach(self) -> list[Check]:
        began = time.monotonic()
        # Paths cross network namespaces: without a mount namespace only what needs a network can be judged.
        asked = [target for target in self._outside if self._isolation.hides or target.startswith("tcp:")]
        inside = await self._inside()
        outside = await _probe_here(self._outside)
        spent = time.monotonic() - began
        return [replace(check, elapsed_seconds=spent) for check in judge_reach(asked, inside, outside)]

    async def _inside(self) -> list[str]:
        """What probe.py says when the copy's own server runs it, in the server's own namespaces."""
        words = [sys.executable, "-I", "-S", str(_PROBE), *self._outside]
        program = " ".join(f'"{word}"' for word in words)
        await self._copy.ask("CREATE TEMPORARY TABLE probe (line text)")
        await self._copy.ask(f"COPY probe FROM PROGRAM '{program.replace(chr(39), chr(39) * 2)}'")
        return [line for (line,) in await self._copy.ask("SELECT line FROM probe")]


async def _probe_here(targets: Sequence[str]) -> list[str]:
    """The same probe from this process: the control, for a target that is down for everybody proves nothing."""
    done = await command.run([sys.executable, "-I", "-S", str(_PROBE), *targets], timeout_seconds=_PROBE_SECONDS)
    return done.out.splitlines()


def judge_reach(asked: Sequence[str], inside: Sequence[str], outside: Sequence[str]) -> list[Check]:
    """The checks in the probe's lines about the targets *asked*, seen from inside the copy and from outside."""
    reached = [target for target in asked if f"open {target}" in inside]
    answered = [target for target in asked if f"shut {target}" in inside]
    control = sum(f"open {target}" in outside for target in asked)
    detail = f"reached {', '.join(reached)}" if reached else f"{control} of them answer outside, none inside"
    facts = dict(line.split(" ", 1) for line in inside if line.startswith(("listens ", "interfaces ")))
    silent = facts.get("listens") == "0" and facts.get("interfaces") == "0"
    seen = f"{facts.get('interfaces', '?')} network interfaces, {facts.get('listens', '?')} listening TCP sockets"
    network = Check("isolation_no_network", silent, 2, seen)
    if not asked:
        return [network]
    if not reached and not control:
        return [
            not_made("isolation_production_unreachable", "nothing answers outside either: nothing is proved"),
            network,
        ]
    return [Check("isolation_production_unreachable", len(answered) == len(asked), len(asked), detail), network]
