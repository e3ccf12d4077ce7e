"""A database of the first release on its way to this one."""

import alembic.command

from libs.db import migrate
from libs.jobqueue.claim import Claimer
from libs.principal import Operator, User
from services.backup.domain.job import Filter
from services.backup.ops.jobs import Jobs
from tests.support.postgres import MakeDatabase, TestDatabase

_OLD = """
    INSERT INTO jobs.jobs (id, service, type, payload, organization_id, user_id, state, run_at, max_attempts,
        timeout_seconds) VALUES ('old', 'files', 'send_note', '{"text": "hello", "times": 1}', 'oak', 'anna', 'ready',
        now(), 20, 300);
    INSERT INTO jobs.ready (service, tenant, priority, job_id) VALUES ('files', 'oak', 0, 'old');
    INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files');
"""
_ENDED = """
    INSERT INTO jobs.jobs (id, service, type, payload, state, run_at, max_attempts, timeout_seconds, finished_at)
    VALUES ('dead', 'files', 'send_note', '{}', 'dead', now(), 20, 300, now()),
        ('later', 'files', 'send_note', '{}', 'scheduled', now() + interval '1 day', 20, 300, NULL);
"""


def _given(database: TestDatabase, revision: str, rows: str) -> None:
    [tree] = migrate.trees(["db"])
    with migrate._connected(database.url()) as connection:
        alembic.command.upgrade(migrate._config(tree, connection), revision)
    with database.admin() as admin:
        admin.execute(rows.encode())


async def test_jobs_that_were_ready_before_an_upgrade_are_claimed_after_it(make_database: MakeDatabase) -> None:
    database = make_database(())
    _given(database, "0002", _OLD)
    steps = migrate.upgrade(database.url(), ["db"])
    assert [step.revision for step in steps][:1] == ["0003"]
    files = database.connect("files")
    [found] = await Claimer(files, "files", "w1").claim(5)
    assert (found.lease.job_id, found.lease.principal) == ("old", User("oak", "anna", actor="files"))
    await files.stop()


async def test_jobs_that_had_died_or_were_scheduled_before_an_upgrade_are_retried_after_it(
    make_database: MakeDatabase,
) -> None:
    database = make_database(())
    _given(database, "0008", _ENDED)
    migrate.upgrade(database.url(), ["db"])
    backup = database.connect("backup")
    for state in ("dead", "scheduled"):
        done = await Jobs(backup).retry_many(Operator("uid:0"), Filter(state=state))
        assert (done.retried, done.more) == (1, False)
    await backup.stop()
