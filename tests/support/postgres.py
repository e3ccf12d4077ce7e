"""A real cluster per test session, and a fresh copy of a migrated database per test module.

Fixtures: `cluster` (session), `make_database` (session), `database` (module; a module that needs only some
migration trees overrides the fixture `database_trees`). A TestDatabase gives services their configuration and tests
the owner's view.
"""

import os
import pwd
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL

from deploy.stack.postgres import Cluster, grant
from libs.db import Database, Limits, migrate
from libs.db.grants import SERVICES
from tests.support.scratch import scratch

PASSWORDS = {
    role: f"{role}-password-of-the-tests-only".encode()
    for role in ("holdfast_owner", "holdfast_pgbackrest", *(f"holdfast_{service}" for service in SERVICES))
}
# Unit tests lose nothing when the machine stops; the stack's own cluster keeps the safe defaults.
_FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
}


@dataclass(frozen=True, slots=True)
class Password:
    """A secret as the configuration holds one."""

    value: bytes

    def reveal(self) -> bytes:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What libs.db needs of a service's configuration."""

    service: str
    database_host: str
    database_port: int
    database_name: str
    database_user: str
    database_password: Password
    database_tls: str = "off"
    database_ca_file: str = ""


@dataclass(slots=True)
class TestDatabase:
    """One database of the cluster, and the ways in."""

    __test__ = False

    cluster: Cluster
    name: str
    opened: list[Database] = field(default_factory=list)

    def login(self, service: str) -> Login:
        """The configuration of *service*'s runtime login."""
        role = f"holdfast_{service}"
        return Login(
            service=service,
            database_host=str(self.cluster.socket_dir),
            database_port=self.cluster.port,
            database_name=self.name,
            database_user=role,
            database_password=Password(PASSWORDS[role]),
        )

    def connect(self, service: str, *, limits: Limits | None = None, **options: Any) -> Database:
        """*service*'s Database; closed with this one."""
        made = Database.connect(self.login(service), limits=limits or Limits(connections=4), **options)
        self.opened.append(made)
        return made

    def url(self, role: str = "holdfast_owner") -> URL:
        """The SQLAlchemy URL of *role*."""
        return migrate.owner_url(
            host=str(self.cluster.socket_dir),
            port=self.cluster.port,
            database=self.name,
            user=role,
            password=PASSWORDS[role].decode(),
        )

    @asynccontextmanager
    async def session(self, role: str = "holdfast_owner") -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """A plain autocommit connection as *role*."""
        url = self.url(role)
        connection = await psycopg.AsyncConnection.connect(
            host=str(self.cluster.socket_dir), port=self.cluster.port, user=role, password=url.password,
            dbname=self.name, autocommit=True,
        )  # fmt: skip
        try:
            yield connection
        finally:
            await connection.close()

    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's connection: sees through row-level security, so only for arranging and for looking at rows."""
        return self.cluster.admin(self.name)

    async def close(self) -> None:
        """Close what connect() opened."""
        for database in self.opened:
            await database.stop()


MakeDatabase = Callable[..., TestDatabase]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Postgres with the roles of bootstrap.sql, in directories of its own, gone at the end."""
    if os.geteuid() == 0:
        _ensure_user("holdfast")
    with scratch("pg") as base:
        made = Cluster(data_dir=base / "data", socket_dir=base / "s", settings=_FAST)
        made.initialise()
        server = made.start(base / "postgres.log")
        try:
            made.bootstrap(PASSWORDS)
            yield made
        finally:
            made.stop(server, immediate=True)


@pytest.fixture(scope="session")
def make_database(cluster: Cluster) -> MakeDatabase:
    """`make_database(trees=None)`: a new database with the roles, schemas and the migrations of *trees* (all by
    default).
    """
    made: list[TestDatabase] = []

    def make(trees: Sequence[str] | None = None) -> TestDatabase:
        template = _template(cluster, trees)
        found = TestDatabase(cluster, f"t{len(made)}_{os.getpid()}")
        _copy(cluster, template, found.name)
        made.append(found)
        return found

    return make


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str] | None:
    """The migration trees `database` has; None is all."""
    return None


@pytest.fixture(scope="module")
async def database(make_database: MakeDatabase, database_trees: Sequence[str] | None) -> AsyncIterator[TestDatabase]:
    """This module's own database; what it opened is closed with it."""
    found = make_database(database_trees)
    yield found
    await found.close()


@pytest.fixture(scope="module")
def database_url(database: TestDatabase) -> URL:
    """The owner's URL of this module's database."""
    return database.url()


def _template(cluster: Cluster, trees: Sequence[str] | None) -> str:
    name = "template_" + ("all" if trees is None else "_".join(trees) or "none")
    with cluster.admin() as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return name
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    grant(cluster, name)
    migrate.upgrade(TestDatabase(cluster, name).url(), trees)
    return name


def _copy(cluster: Cluster, template: str, name: str) -> None:
    with cluster.admin() as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    grant(cluster, name)


def _ensure_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        made = ["useradd", "--system", "--home-dir", "/var/lib/holdfast", "--shell", "/usr/sbin/nologin", name]
        subprocess.run(made, check=True)
