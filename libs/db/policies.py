"""What a migration says about a table: its scope, and with it row-level security, grants and the reference to its user.

Each helper sets the COMMENT, the forced policies, the runtime role's grants and the foreign key in one go, so that
a table is either whole or not there. Tables are named `schema.table`; the runtime role is that of the schema unless
told otherwise.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Executable, text

from libs.db.grants import SERVICES, runtime_role

OWNER = "holdfast_owner"
DML = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Operations(Protocol):
    """The one thing that is used of Alembic's `op`."""

    def execute(self, sqltext: Executable | str) -> None:
        """Run one statement in the migration's transaction."""
        ...


def armed(setting: str) -> str:
    """SQL of an armed setting (organization_id, user_id, account_id): NULL, which equals nothing, when it is not armed.

    A scalar sub-select is evaluated once per statement; a bare call would be evaluated once per row.
    """
    return f"(SELECT NULLIF(current_setting('holdfast.{setting}', true), ''))"


def user_table(
    op: Operations, name: str, *, grants: Sequence[str] = DML, definer: bool = False, references: bool = True
) -> None:
    """Rows of one user: columns organization_id and user_id, both NOT NULL, referring together to auth.users.

    definer: a SECURITY DEFINER function of the owner works on it, so the same policy binds the owner too.
    """
    condition = f"organization_id = {armed('organization_id')} AND user_id = {armed('user_id')}"
    _declare(op, name, "user")
    _protect(op, name, condition, _roles(name, definer))
    _grant(op, name, grants)
    if references:
        _run(op, f"ALTER TABLE {name} ALTER organization_id SET NOT NULL, ALTER user_id SET NOT NULL")
        _refer(op, name, "user", "(organization_id, user_id)", "auth.users (organization_id, id)")


def organization_table(
    op: Operations,
    name: str,
    *,
    grants: Sequence[str] = DML,
    definer: bool = False,
    references: bool = True,
    account_column: str = "",
) -> None:
    """Rows of one organization: column organization_id NOT NULL, referring to auth.organizations.

    account_column: rows whose column equals the armed account are seen too, whatever their organization (auth.users
    only).
    """
    condition = f"organization_id = {armed('organization_id')}"
    if account_column:
        condition += f" OR {account_column} = {armed('account_id')}"
    _declare(op, name, "organization")
    _protect(op, name, condition, _roles(name, definer))
    _grant(op, name, grants)
    if references:
        _run(op, f"ALTER TABLE {name} ALTER organization_id SET NOT NULL")
        _refer(op, name, "organization", "(organization_id)", "auth.organizations (id)")


def service_table(
    op: Operations, name: str, *services: str, grants: Sequence[str] = DML, condition: str = "service = '{service}'"
) -> None:
    """Rows of one service: column service NOT NULL; each of *services* (all by default) reaches only its own rows.

    The policies name roles, never a setting, so nobody can arm another service.
    """
    _declare(op, name, "service")
    _enable(op, name)
    _run(op, f"ALTER TABLE {name} ALTER service SET NOT NULL")
    for service in services or SERVICES:
        role = runtime_role(service)
        policy = f"CREATE POLICY {_base(name)}_{service} ON {name} TO {role}"
        clause = condition.format(service=service)
        _run(op, f"{policy} USING ({clause}) WITH CHECK ({clause})")
        _grant(op, name, grants, role)


def global_table(op: Operations, name: str, reason: str, *, grants: Sequence[str] = DML) -> None:
    """Rows that no tenant owns; *reason* says why in a few words, without parentheses."""
    _declare(op, name, f"global ({reason})")
    _grant(op, name, grants)


@contextmanager
def lifted(op: Operations, *names: str) -> Iterator[None]:
    """Let a data migration see and change every row of *names*: FORCE is off inside, in the migration's own
    transaction.

    Without it the owner sees no row and says nothing. An error undoes the lifting with everything else.
    """
    for name in names:
        _run(op, f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")
    yield
    for name in names:
        _run(op, f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")


def _declare(op: Operations, name: str, scope: str) -> None:
    _run(op, f"COMMENT ON TABLE {name} IS 'scope: {scope.replace(chr(39), chr(39) * 2)}'")


def _enable(op: Operations, name: str) -> None:
    _run(op, f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def _protect(op: Operations, name: str, condition: str, roles: str) -> None:
    _enable(op, name)
    _run(op, f"CREATE POLICY {_base(name)}_scope ON {name} TO {roles} USING ({condition}) WITH CHECK ({condition})")


def _grant(op: Operations, name: str, grants: Sequence[str], role: str = "") -> None:
    if grants:
        _run(op, f"GRANT {', '.join(grants)} ON {name} TO {role or runtime_role(_schema(name))}")


def _refer(op: Operations, name: str, noun: str, columns: str, target: str) -> None:
    _run(op, f"ALTER TABLE {name} ADD CONSTRAINT {_base(name)}_{noun}_fkey FOREIGN KEY {columns} REFERENCES {target}")


def _roles(name: str, definer: bool) -> str:
    role = runtime_role(_schema(name))
    return f"{role}, {OWNER}" if definer else role


def _schema(name: str) -> str:
    return name.split(".")[0]


def _base(name: str) -> str:
    return name.split(".")[1]


def _run(op: Operations, statement: str) -> None:
    op.execute(text(statement.replace(":", r"\:")))
