"""The limit: pgbench with the least SQL that claims a hundred jobs and finishes them in the same transaction.

Two tables, ready (id, payload) with its primary key and done (id, payload, at) without any index; one statement locks
the next hundred with SKIP LOCKED, deletes them and writes them to done. No tenants, leases, states or handlers.
"""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass

from deploy.stack.postgres import binaries
from tests.bench.queues.server import Server

CLIENTS = 4
CLAIM = 100
TABLES = """
CREATE TABLE ready (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, payload text NOT NULL);
CREATE TABLE done (id bigint NOT NULL, payload text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())
"""
FILL = """INSERT INTO ready (payload) SELECT '{"sent": 1234.5678}' FROM generate_series(1, %s)"""
STATEMENT = f"""
WITH picked AS MATERIALIZED (SELECT id FROM ready ORDER BY id LIMIT {CLAIM} FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM ready USING picked WHERE ready.id = picked.id RETURNING ready.id, ready.payload)
INSERT INTO done (id, payload) SELECT id, payload FROM gone;
"""
LABEL = f"pgbench, {CLIENTS} clients, claim {CLAIM} and finish"


@dataclass(frozen=True, slots=True)
class Raw:
    """jobs: how many are claimed and finished in a round."""

    server: Server
    jobs: int

    def rate(self) -> float:
        """Jobs a second."""
        name = "raw_run"
        self.server.copy("template0", name)
        with self.server.admin(name) as connection:
            for statement in TABLES.split(";"):
                connection.execute(statement.encode())
            connection.execute(FILL, [self.jobs])
            connection.execute("GRANT ALL ON ready, done TO bench")
        self.server.settle(name)
        rounds = self.jobs // CLAIM // CLIENTS
        transactions = _pgbench(self.server.environment(name), rounds)
        with self.server.admin(name) as connection:
            row = connection.execute("SELECT count(*) FROM done").fetchone()
        # A client that found all of the last ones locked has claimed fewer.
        assert row is not None
        return transactions * int(str(row[0])) / (rounds * CLIENTS)


def _pgbench(environment: dict[str, str], transactions: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(STATEMENT.replace("\n", " "))
        script.flush()
        command = [str(binaries() / "pgbench"), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2"]
        shown = subprocess.run(
            [*command, "-t", str(transactions), "-f", script.name],
            env={**os.environ, **environment}, check=True, capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip
    found = re.search(r"tps = ([\d.]+)", shown)
    assert found is not None, shown
    return float(found[1])
