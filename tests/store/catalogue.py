"""What the catalogue says about our tables, and rows made from that alone, for tests that hold for every table."""

import json
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from libs.db.scope import declared

SCHEMAS = ["auth", "files", "events", "backup", "jobs", "audit"]
Admin = psycopg.Connection[tuple[Any, ...]]

_TABLES = """
    SELECT n.nspname, c.relname, obj_description(c.oid, 'pg_class'), c.relrowsecurity AND c.relforcerowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = ANY (%s) ORDER BY 1, 2
"""
_COLUMNS = """
    SELECT column_name, udt_name, is_nullable = 'NO' AND column_default IS NULL,
        is_identity = 'YES' OR is_generated = 'ALWAYS'
    FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""


@dataclass(frozen=True, slots=True)
class Table:
    """One table and its declared scope, "" when it declares none."""

    schema: str
    name: str
    scope: str
    forced: bool

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """Its quoted name."""
        return sql.Identifier(self.schema, self.name)


def tables(admin: Admin, *scopes: str) -> list[Table]:
    """Every table of our schemas, or those of *scopes*; partitions count as their parent."""
    rows = admin.execute(_TABLES, [SCHEMAS]).fetchall()
    found = [Table(schema, name, declared(comment), forced) for schema, name, comment, forced in rows]
    return [table for table in found if not scopes or table.scope in scopes]


def readers(admin: Admin, table: Table, privilege: str = "SELECT") -> list[str]:
    """The services whose login holds *privilege* on *table*."""
    query = "SELECT has_table_privilege('holdfast_' || %s, %s, %s)"
    asked = ((service, admin.execute(query, [service, str(table), privilege]).fetchone()) for service in SCHEMAS[:4])
    return [service for service, answer in asked if answer is not None and answer[0]]


def loosen(admin: Admin, table: Table) -> None:
    """Drop the CHECKs of *table*, in a database of the test's own, so that made-up values fit."""
    query = "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'"
    for (name,) in admin.execute(query, [str(table)]).fetchall():
        admin.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table.identifier, sql.Identifier(name)))


def row(admin: Admin, table: Table, number: int, **given: str) -> dict[str, Any]:
    """A row of *table* that differs by *number*: *given*, and something for each column that needs a value."""
    made: dict[str, Any] = {}
    for name, kind, needed, automatic in admin.execute(_COLUMNS, [table.schema, table.name]).fetchall():
        if automatic:
            continue
        if name in given:
            made[name] = given[name]
        elif needed:
            made[name] = _value(kind, number)
    return made


def insert(table: Table, values: dict[str, Any]) -> sql.Composed:
    """The INSERT of *values*, in the order of its placeholders."""
    columns = sql.SQL(", ").join(map(sql.Identifier, values))
    places = sql.SQL(", ").join(sql.Placeholder() * len(values))
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table.identifier, columns, places)


def _value(kind: str, number: int) -> Any:
    values = {
        "text": f"value{number}",
        "varchar": f"value{number}",
        "bytea": number.to_bytes(32),
        "jsonb": json.dumps({"number": number}),
        "bool": True,
        "timestamptz": "2026-01-01T00:00:00Z",
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
    }
    return "{}" if kind.startswith("_") else values.get(kind, number)
