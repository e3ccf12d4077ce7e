"""Takes from a copy what would let anybody in or act in somebody's name, before anybody may look inside.

Roles lose their logins and passwords; sessions, mailed tokens, password hashes and the payloads of jobs go. Triggers
and references are off for it, as in a restore. What is left of personal data is for the directory's mode to guard.
"""

from collections.abc import Sequence

from services.backup.adapters.copy import Copy
from services.backup.domain.drill import Check

EMPTIED = ("auth.link_tokens", "auth.sessions")
BLANKED = {"auth.accounts": "password_hash = ''", "jobs.jobs": "payload = '{}', unique_key = ''"}
_ROLES = "SELECT quote_ident(rolname) FROM pg_authid WHERE (rolcanlogin OR rolpassword IS NOT NULL) AND rolname <> %s"
_PASSWORDS = "SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL"
_IS_THERE = "SELECT to_regclass(%s) IS NOT NULL"


def statements(tables: Sequence[str]) -> list[str]:
    """What empties or blanks each of *tables*, those of EMPTIED and BLANKED that a copy has."""
    return [
        f"UPDATE {table} SET {BLANKED[table]}" if table in BLANKED else f"TRUNCATE {table}"  # noqa: S608 - constants
        for table in tables
    ]


async def scrub(copy: Copy, superuser: str) -> Check:
    """The check `scrubbed`, made by looking again. superuser: the copy's only way in, by the drill's own socket."""
    await copy.ask("SET session_replication_role = replica")
    roles = [role for (role,) in await copy.ask(_ROLES, [superuser])]
    for role in roles:
        await copy.ask(f"ALTER ROLE {role} NOLOGIN PASSWORD NULL")
    tables = [table for table in (*EMPTIED, *BLANKED) if (await copy.ask(_IS_THERE, [table]))[0][0]]
    for statement in statements(tables):
        await copy.ask(statement)
    left = await copy.ask(_ROLES, [superuser])
    left += [(f"{count} passwords",) for (count,) in await copy.ask(_PASSWORDS) if count]
    left += [(table,) for table in tables if table in EMPTIED and await copy.ask(f"SELECT FROM {table} LIMIT 1")]
    found = ", ".join(str(what) for (what,) in left)
    good = f"{len(roles)} logins are disabled, {len(tables)} tables hold no secret any more"
    return Check("scrubbed", not left, len(roles) + len(tables), f"still there: {found}" if left else good)
