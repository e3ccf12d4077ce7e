"""A database of the first release on its way to this one."""

import alembic.command

from libs.db import migrate
from libs.jobqueue.claim import Claimer
from libs.principal import User
from tests.support.postgres import MakeDatabase

_OLD = """
    INSERT INTO jobs.jobs (id, service, type, payload, organization_id, user_id, state, run_at, max_attempts,
        timeout_seconds) VALUES ('old', 'files', 'send_note', '{"text": "hello", "times": 1}', 'oak', 'anna', 'ready',
        now(), 20, 300);
    INSERT INTO jobs.ready (service, tenant, priority, job_id) VALUES ('files', 'oak', 0, 'old');
    INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files');
"""


async def test_jobs_that_were_ready_before_an_upgrade_are_claimed_after_it(make_database: MakeDatabase) -> None:
    database = make_database(())
    [tree] = migrate.trees(["db"])
    with migrate._connected(database.url()) as connection:
        alembic.command.upgrade(migrate._config(tree, connection), "0002")
    with database.admin() as admin:
        admin.execute(_OLD)
    steps = migrate.upgrade(database.url(), ["db"])
    assert [step.revision for step in steps][:1] == ["0003"]
    files = database.connect("files")
    [found] = await Claimer(files, "files", "w1").claim(5)
    assert (found.lease.job_id, found.lease.principal) == ("old", User("oak", "anna", actor="files"))
    await files.stop()
