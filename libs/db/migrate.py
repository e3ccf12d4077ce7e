"""Migrations: one Alembic tree per schema owner, run in a fixed order as holdfast_owner, by one runner at a time.

Order: libs/db (schemas jobs and audit) first, because it refers to nothing; auth next, because every tenant row
refers to auth.users; events before files, because files may call events.append; backup last. A tree's env.py is two
lines: `from libs.db import migrate` and `migrate.run()`. A tree keeps its version in `<schema>.alembic_version`.
Verbs: `python -m libs.db.migrate plan` prints what would run; `upgrade` runs it. The login comes from the
environment: HOLDFAST_DATABASE_HOST, _PORT, _NAME, _USER (default holdfast_owner), and the file
<HOLDFAST_SECRETS_DIR>/database_password.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import alembic.command
from alembic import context
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, text

_ROOT = Path(__file__).resolve().parents[2]
_LOCK_KEY = 0x686F6C6466617374  # "holdfast": one runner at a time
_WAIT_FOR_RUNNER = "120s"
_WAIT_FOR_ROW = "5s"
_STATEMENT = "300s"


@dataclass(frozen=True, slots=True)
class Tree:
    """One Alembic tree: where it lies from the repository's root, and the schema that keeps its version."""

    name: str
    folder: str
    schema: str

    @property
    def path(self) -> Path:
        """The directory with env.py and versions/."""
        return _ROOT / self.folder


@dataclass(frozen=True, slots=True)
class Step:
    """One revision that has not run yet."""

    tree: str
    revision: str
    title: str


TREES = (
    Tree("db", "libs/db/migrations", "jobs"),
    Tree("auth", "services/auth/migrations", "auth"),
    Tree("events", "services/events/migrations", "events"),
    Tree("files", "services/files/migrations", "files"),
    Tree("backup", "services/backup/migrations", "backup"),
)


def trees(names: Sequence[str] | None = None) -> list[Tree]:
    """The trees that exist, in order; only those in *names* when given."""
    return [tree for tree in TREES if (tree.path / "env.py").is_file() and (names is None or tree.name in names)]


def plan(url: URL | str, names: Sequence[str] | None = None) -> list[Step]:
    """The revisions upgrade would run, in order. Changes nothing."""
    steps = []
    with _connected(url) as connection:
        for tree in trees(names):
            steps.extend(_pending(connection, tree))
    return steps


def upgrade(url: URL | str, names: Sequence[str] | None = None) -> list[Step]:
    """Run every pending revision, each in its own transaction, and return them. A second runner waits, then finds
    nothing.

    url: of holdfast_owner. Raises sqlalchemy.exc.OperationalError when a lock is not granted within 5 s: run it again.
    """
    ran = []
    with _connected(url) as connection:
        connection.execute(text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": _WAIT_FOR_RUNNER})
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
        connection.execute(text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": _WAIT_FOR_ROW})
        connection.commit()
        for tree in trees(names):
            pending = _pending(connection, tree)
            if pending:
                alembic.command.upgrade(_config(tree, connection), "head")
                _describe(connection, tree)
            ran.extend(pending)
    return ran


def run() -> None:
    """The whole of a tree's env.py: run its revisions on the connection that upgrade opened."""
    connection: Connection = context.config.attributes["connection"]
    schema: str = context.config.attributes["schema"]
    context.configure(connection=connection, version_table_schema=schema, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def owner_url(*, host: str, port: int, database: str, password: str, user: str = "holdfast_owner") -> URL:
    """The URL that plan and upgrade take. host: a name, or a socket directory."""
    query = {"host": host, "port": str(port)}
    return URL.create("postgresql+psycopg", username=user, password=password, database=database, query=query)


def _pending(connection: Connection, tree: Tree) -> list[Step]:
    script = ScriptDirectory.from_config(_config(tree, connection))
    reached = MigrationContext.configure(connection, opts={"version_table_schema": tree.schema}).get_current_heads()
    connection.rollback()
    revisions = script.iterate_revisions("heads", reached or "base")
    return [Step(tree.name, found.revision, found.doc) for found in reversed(list(revisions))]


def _config(tree: Tree, connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(tree.path).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=tree.schema)
    return config


def _describe(connection: Connection, tree: Tree) -> None:
    comment = "COMMENT ON TABLE {}.alembic_version IS 'scope: global (which migrations have run)'"
    connection.execute(text(comment.format(tree.schema)))
    connection.commit()


@contextmanager
def _connected(url: URL | str) -> Iterator[Connection]:
    options = f"-c statement_timeout={_STATEMENT} -c timezone=UTC"
    engine = create_engine(url, connect_args={"options": options, "application_name": "holdfast-migrate"})
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _from_environment() -> URL:
    values = os.environ
    password = Path(values["HOLDFAST_SECRETS_DIR"], "database_password").read_text().strip()
    return owner_url(
        host=values["HOLDFAST_DATABASE_HOST"],
        port=int(values.get("HOLDFAST_DATABASE_PORT", "5432")),
        database=values.get("HOLDFAST_DATABASE_NAME", "holdfast"),
        user=values.get("HOLDFAST_DATABASE_USER", "holdfast_owner"),
        password=password,
    )


def main(arguments: Sequence[str]) -> int:
    """The verbs plan and upgrade; returns the exit status."""
    verbs = {"plan": plan, "upgrade": upgrade}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print("usage: python -m libs.db.migrate plan|upgrade", file=sys.stderr)
        return 64
    for step in verbs[arguments[0]](_from_environment()):
        print(f"{step.tree} {step.revision} {step.title}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
