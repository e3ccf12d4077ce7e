"""A queue as it looks after years, made by the server itself; and the plans of what is asked of it."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import event

from libs.db import Database

TENANTS = 10
PRIORITIES = 2

_JOBS = """
    INSERT INTO jobs.jobs (id, service, type, payload, organization_id, user_id, actor, state, priority, run_at,
                           max_attempts, timeout_seconds)
    SELECT '{prefix}' || lpad(n::text, 25, '0'), 'files', 'send_note', '{{"text": "x", "times": 1}}',
           't' || n % {tenants}, 'u', '', '{state}', n / {tenants} % {priorities}, {run_at}, 20, 300
    FROM generate_series(0, {last}) AS n"""
_TOMORROW = "now() + interval '1 day' + n * interval '1 ms'"


def fill(admin: psycopg.Connection[Any], *, ready: int, scheduled: int = 0, history: int = 0) -> None:
    """So many jobs ready, scheduled for tomorrow and finished; of ten tenants with two priorities each."""
    for prefix, state, run_at, count in (("r", "ready", "now()", ready), ("s", "scheduled", _TOMORROW, scheduled)):
        how = {"prefix": prefix, "state": state, "run_at": run_at, "tenants": TENANTS, "priorities": PRIORITIES}
        admin.execute(_JOBS.format(last=count - 1, **how).encode())
    admin.execute(
        "INSERT INTO jobs.ready (service, tenant, priority, job_id)"
        " SELECT service, organization_id, priority, id FROM jobs.jobs WHERE state = 'ready' ORDER BY id"
    )
    admin.execute(
        "INSERT INTO jobs.lanes (service, queue, tenant, priority)"
        " SELECT DISTINCT service, queue, tenant, priority FROM jobs.ready"
    )
    admin.execute(
        "INSERT INTO jobs.history (id, service, type, organization_id, user_id, outcome, lease, failures, crashes,"
        " created_at) SELECT 'h' || lpad(n::text, 25, '0'), 'files', 'send_note', 't0', 'u', 'done', 1, 0, 0, now()"
        " FROM generate_series(1, %s) AS n",
        [history],
    )


def explain_all(admin: psycopg.Connection[Any], name: str) -> None:
    """From now on connections to the database *name* are told the plan of every statement, as it was run."""
    for setting, value in {
        "session_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_analyze": "on",
        "auto_explain.log_timing": "off",
        "auto_explain.log_buffers": "on",
        "auto_explain.log_format": "json",
        "client_min_messages": "log",
    }.items():
        admin.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(sql.Identifier(name), sql.SQL(setting), sql.Literal(value))
        )


class Plan:
    """How one statement was run."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.query = str(told["Query Text"])
        self.root: dict[str, Any] = told["Plan"]

    @property
    def blocks(self) -> int:
        """Blocks read, wherever they were found."""
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Every node."""
        return list(_walk(self.root))

    def on(self, relation: str) -> list[dict[str, Any]]:
        """The scans of *relation*."""
        return [node for node in self.nodes if node.get("Relation Name") == relation and "Scan" in node["Node Type"]]


class Plans:
    """Collects the plans of everything a Database does from now on."""

    def __init__(self, database: Database) -> None:
        self._seen: list[Plan] = []
        event.listen(database._engine.sync_engine, "connect", self._listen)

    def taken(self, word: str) -> list[Plan]:
        """The plans since the last call of the statements that have *word* in them."""
        found, self._seen = [plan for plan in self._seen if word in plan.query], []
        return found

    def _listen(self, connection: Any, _record: Any) -> None:
        connection.driver_connection.add_notice_handler(self._notice)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        _, found, plan = (notice.message_primary or "").partition("plan:\n")
        if found:
            self._seen.append(Plan(json.loads(plan)))


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)
