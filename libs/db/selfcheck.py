"""T6: what would make a login able to step around row-level security, found in the catalogue before it may serve."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.db.grants import Grant, closed, runtime_role
from libs.db.scope import SCOPES, TENANT_COLUMNS, declared

_ROLE = text(
    "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
    " FROM pg_roles WHERE rolname IN (current_user, session_user)"
)
_MEMBERSHIPS = text(
    "SELECT rolname FROM pg_roles WHERE rolname <> current_user AND pg_has_role(current_user, oid, 'MEMBER') ORDER BY 1"
)
_OWNED = text(
    "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relowner = current_user::regrole AND n.nspname NOT LIKE 'pg\\_%'"
    " UNION ALL SELECT n.nspname || '.' || p.proname || '()'"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE p.proowner = current_user::regrole"
    " UNION ALL SELECT 'schema ' || nspname FROM pg_namespace"
    " WHERE nspowner = current_user::regrole AND nspname NOT LIKE 'pg\\_%'"
    " UNION ALL SELECT 'database ' || datname FROM pg_database WHERE datdba = current_user::regrole ORDER BY 1"
)
_CREATE = text(
    "SELECT 'CREATE on schema ' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'"
    " AND has_schema_privilege(current_user, oid, 'CREATE')"
    " UNION ALL SELECT privilege || ' on database ' || current_database()"
    " FROM unnest(ARRAY['CREATE', 'TEMPORARY']) privilege"
    " WHERE has_database_privilege(current_user, current_database(), privilege) ORDER BY 1"
)
_RELATIONS = text(
    "SELECT n.nspname || '.' || c.relname AS name, n.nspname AS schema, c.relkind::text AS kind,"
    " c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,"
    " coalesce(c.reloptions @> '{security_invoker=true}', false) AS invoker,"
    " obj_description(c.oid, 'pg_class') AS comment,"
    " EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid) AS policed,"
    " ARRAY(SELECT attname::text FROM pg_attribute"
    " WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,"
    " ARRAY(SELECT privilege"
    " FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege"
    " WHERE has_table_privilege(current_user, c.oid, privilege)"
    " OR (privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')"
    " AND has_any_column_privilege(current_user, c.oid, privilege))) AS privileges"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition"
    " AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1"
)
_FUNCTIONS = text(
    "SELECT DISTINCT n.nspname || '.' || p.proname AS name, n.nspname AS schema"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE has_schema_privilege(current_user, n.oid, 'USAGE')"
    " AND has_function_privilege(current_user, p.oid, 'EXECUTE')"
    " AND n.nspname <> 'information_schema' AND (n.nspname <> 'pg_catalog' OR (p.proacl IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 0))) ORDER BY 1"
)
_UNSAFE_ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolbypassrls": "BYPASSRLS",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolreplication": "REPLICATION",
}


async def faults(connection: AsyncConnection, service: str) -> list[str]:
    """What is wrong with the login of *connection* as *service*'s runtime role, each with what to do; [] when safe."""
    found = await _role_faults(connection, service)
    for name in (await connection.execute(_OWNED)).scalars():
        found.append(f"The login owns {name}: give it to holdfast_owner (ALTER … OWNER TO holdfast_owner).")
    for privilege in (await connection.execute(_CREATE)).scalars():
        found.append(f"The login holds {privilege}: revoke it, also from PUBLIC; bootstrap.sql does.")
    allowed = closed(service)
    for relation in (await connection.execute(_RELATIONS)).mappings():
        concerned = relation["schema"] == service or relation["privileges"]
        found.extend(_relation_faults(relation) if concerned else [])
        if relation["schema"] != service:
            held = {("table", relation["name"], privilege) for privilege in relation["privileges"]}
            found.extend(_foreign(grant) for grant in sorted(held - allowed))
    for function in (await connection.execute(_FUNCTIONS)).mappings():
        grant = ("function", function["name"], "EXECUTE")
        if function["schema"] != service and grant not in allowed:
            found.append(_foreign(grant))
    return found


async def _role_faults(connection: AsyncConnection, service: str) -> list[str]:
    found = []
    for role in (await connection.execute(_ROLE)).mappings():
        if role["rolname"] != runtime_role(service):
            found.append(f"The login runs as {role['rolname']}: sign in as {runtime_role(service)}.")
        held = [word for column, word in _UNSAFE_ATTRIBUTES.items() if role[column]]
        if held:
            found.append(
                f"The role {role['rolname']} is {' and '.join(held)}:"
                f" use the service's own login, or ALTER ROLE … NO{held[0]}."
            )
    memberships = (await connection.execute(_MEMBERSHIPS)).scalars()
    sentence = "The login is a member of {}: a runtime role belongs to no other role; REVOKE it."
    return [*found, *(sentence.format(name) for name in memberships)]


def _relation_faults(relation: Mapping[Any, Any]) -> list[str]:
    name = relation["name"]
    if relation["kind"] in ("v", "m"):
        safe = relation["invoker"] and relation["kind"] == "v"
        return (
            []
            if safe
            else [f"The view {name} reads with its owner's rights: make it a view WITH (security_invoker = true)."]
        )
    scope = declared(relation["comment"])
    if not scope:
        return [
            f"The table {name} declares no scope:"
            f" add COMMENT 'scope: …', one of {', '.join(SCOPES)} (global with a reason)."
        ]
    found = []
    missing = [column for column in TENANT_COLUMNS[scope] if column not in relation["columns"]]
    if missing:
        found.append(
            f"The table {name} is of scope {scope} but lacks {', '.join(missing)}: add it, or declare another scope."
        )
    if scope != "global" and not (relation["enabled"] and relation["forced"] and relation["policed"]):
        found.append(
            f"The table {name} is of scope {scope} without forced row-level security:"
            " use libs.db.policies in a migration."
        )
    return found


def _foreign(grant: Grant) -> str:
    kind, name, privilege = grant
    return (
        f"The login holds {privilege} on {kind} {name}, outside the closed list:"
        " revoke it, or add it to libs/db/grants.py."
    )
