"""The Postgres that all queues share: a cluster of its own with the stack's configuration.

fsync and synchronous_commit are on for all; nothing is archived. A measurement starts in a fresh copy of its queue's
template, so that none inherits what another left.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.stack.install import ensure_user
from deploy.stack.postgres import Cluster, grant
from libs.db import migrate
from tests.support.postgres import PASSWORDS, TestDatabase

OURS = "holdfast"
TREES = ["db"]
PEER, PEER_PASSWORD = "bench", "bench"  # an owner of its own databases on a socket of this run only
SHOWN = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "wal_compression")


@dataclass(frozen=True, slots=True)
class Server:
    """A running cluster with a template for each queue."""

    cluster: Cluster

    def admin(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        """A superuser's connection in autocommit."""
        return self.cluster.admin(database)

    def environment(self, database: str) -> dict[str, str]:
        """What names *database* and its login to the program of a queue."""
        ours = database.startswith(OURS)
        return {
            "PGHOST": str(self.cluster.socket_dir),
            "PGPORT": str(self.cluster.port),
            "PGDATABASE": database,
            "PGUSER": "holdfast_files" if ours else PEER,
            "PGPASSWORD": PASSWORDS["holdfast_files"].decode() if ours else PEER_PASSWORD,
        }

    def template(self, queue: str) -> str:
        """An empty database to be filled with the tables of *queue*; ours has them."""
        name = f"{queue}_template"
        with self.admin("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {PEER}".encode())
        if queue == OURS:
            grant(self.cluster, name)
            migrate.upgrade(TestDatabase(self.cluster, name).url(), TREES)
        return name

    def copy(self, source: str, name: str) -> str:
        """A fresh *name*, a copy of *source*, which nobody may be connected to."""
        with self.admin("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {source} OWNER {PEER}".encode())
        if name.startswith(OURS):
            grant(self.cluster, name)
        return name

    def settle(self, database: str) -> None:
        """Before a measurement: statistics as autovacuum would have made them, and no checkpoint under way."""
        with self.admin(database) as connection:
            connection.execute("ANALYZE")
            connection.execute("CHECKPOINT")

    def conditions(self) -> str:
        """The settings that decide."""
        with self.admin("postgres") as connection:
            values = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in SHOWN]
        shown = ((name, value[0]) for name, value in zip(SHOWN, values, strict=True) if value is not None)
        return ", ".join(
            f"{name} {value}".replace("server_version", "Postgres").split(" (")[0] for name, value in shown
        )


@contextmanager
def serving() -> Iterator[Server]:
    """A cluster in a directory of its own, gone at the end."""
    ensure_user()
    base = Path(tempfile.mkdtemp(prefix="hf-bench-"))
    base.chmod(0o755)
    cluster = Cluster(data_dir=base / "data", socket_dir=base / "s")
    try:
        cluster.initialise()
        running = cluster.start(base / "postgres.log")
        try:
            cluster.bootstrap(PASSWORDS)
            with cluster.admin() as connection:
                connection.execute(f"CREATE ROLE {PEER} LOGIN PASSWORD '{PEER_PASSWORD}'".encode())
            yield Server(cluster)
        finally:
            cluster.stop(running)
    finally:
        shutil.rmtree(base, ignore_errors=True)
