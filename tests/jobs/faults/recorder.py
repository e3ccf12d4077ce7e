"""Writes down what the database accepts, in the transaction that does it, and what handlers say they did.

A trigger notes each change of a job with the process that made it, which is the connection's application_name. The
table is the superuser's, so the service's login stays as narrow as its self-check demands.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from deploy.stack.postgres import Cluster
from tests.jobs.faults.history import FINISHED, Event, History, Left

NAME = "holdfast-files-"
"""What a process's application_name is, before its own name."""

_INSTALL = """
    CREATE SCHEMA faults;
    CREATE TABLE faults.events (
        number bigint GENERATED ALWAYS AS IDENTITY, kind text NOT NULL, job text NOT NULL, by text NOT NULL,
        lease bigint NOT NULL DEFAULT 0, was text NOT NULL DEFAULT '', state text NOT NULL DEFAULT '',
        silent_seconds double precision NOT NULL DEFAULT 0, parent text NOT NULL DEFAULT ''
    );
    CREATE FUNCTION faults.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE silent double precision := 0;
    BEGIN
        IF TG_OP <> 'INSERT' AND OLD.state = 'running' THEN
            SELECT CASE WHEN beat_at > '-infinity' THEN extract(epoch FROM clock_timestamp() - beat_at) END INTO silent
            FROM jobs.workers WHERE id = OLD.worker_id;
            silent := coalesce(silent, 'infinity');
        END IF;
        INSERT INTO faults.events (kind, job, by, lease, was, state, silent_seconds, parent) VALUES ('change',
            coalesce(NEW.id, OLD.id), replace(current_setting('application_name'), '%(name)s', ''),
            coalesce(NEW.lease, OLD.lease), coalesce(OLD.state, ''), coalesce(NEW.state, '%(finished)s'), silent,
            CASE WHEN TG_OP = 'INSERT' THEN coalesce(NEW.payload ->> 'parent', '') ELSE '' END);
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER note_made BEFORE INSERT OR DELETE ON jobs.jobs FOR EACH ROW EXECUTE FUNCTION faults.note();
    CREATE TRIGGER note_changed BEFORE UPDATE ON jobs.jobs FOR EACH ROW
        WHEN (NEW.state <> OLD.state OR NEW.lease <> OLD.lease OR NEW.worker_id <> OLD.worker_id)
        EXECUTE FUNCTION faults.note();
"""
_EVENTS = "SELECT number, kind, job, by, lease, was, state, silent_seconds, parent FROM faults.events"
_LEFT = "SELECT id, state, (SELECT count(*) FROM jobs.ready r WHERE r.job_id = j.id) FROM jobs.jobs j"
_SAY = "INSERT INTO faults.events (kind, job, lease, by) VALUES (%s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Of one database; can be sent to other processes."""

    cluster: Cluster
    database: str

    def install(self) -> None:
        """Begin to record."""
        with self.cluster.admin(self.database) as admin:
            admin.execute((_INSTALL % {"name": NAME, "finished": FINISHED}).encode())

    def clear(self) -> None:
        """Forget everything, and every job."""
        with self.cluster.admin(self.database) as admin:
            admin.execute("TRUNCATE faults.events, jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers")
            admin.execute("TRUNCATE jobs.ticks, jobs.queues")

    def open(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection on which a process says what its handlers do."""
        return self.cluster.admin(self.database)

    def history(self, dead_seconds: float) -> History:
        """All that happened so far, at one moment."""
        with self.cluster.admin(self.database) as admin, admin.transaction():
            admin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            events = [Event(**named) for named in admin.cursor(row_factory=dict_row).execute(_EVENTS.encode())]
            left = _left(admin)
            lines = Counter(str(job) for (job,) in admin.execute("SELECT id FROM jobs.history"))
            ticks = admin.execute("SELECT job_id FROM jobs.ticks WHERE job_id <> ''").fetchall()
        return History(dead_seconds, events, left, lines, [str(job) for (job,) in ticks])

    def left(self) -> dict[str, Left]:
        """The jobs that are not finished."""
        with self.cluster.admin(self.database) as admin:
            return _left(admin)

    def finished(self) -> int:
        """How many jobs have ended well."""
        with self.cluster.admin(self.database) as admin:
            row = admin.execute("SELECT count(*) FROM jobs.history").fetchone()
        return int(str(row[0])) if row else 0


def say(connection: psycopg.Connection[Any], kind: str, job: str, lease: int, by: str) -> None:
    """Write down one put, begin or end."""
    connection.execute(_SAY, [kind, job, lease, by])


def _left(connection: psycopg.Connection[Any]) -> dict[str, Left]:
    return {job: Left(state, places) for job, state, places in connection.execute(_LEFT)}
