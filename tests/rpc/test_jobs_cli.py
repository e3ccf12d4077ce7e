"""`holdfast jobs …` against the running service: what it prints, what comes next, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from holdfast.jobs.v1 import job_service_pb2 as pb
from libs.db import Database
from libs.jobqueue import put
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.principal import User
from tests.jobs.samples import SendNote, TryTwice
from tests.support import jobs as support
from tests.support.jobs import Desk
from tests.support.postgres import TestDatabase
from tests.support.wire import told
from tests.unit.lines import Lines

ANNA = User("oak", "anna")


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers, jobs.queues")
    made = database.connect("files")
    yield made
    await made.stop()


@pytest.fixture
async def desk(database: TestDatabase, files: Database, lines: Lines) -> AsyncIterator[Desk]:
    """lines: what the service logs goes there, not among what the command prints."""
    async with support.desk(database) as made:
        yield made


async def call(desk: Desk, *words: str) -> Result:
    arguments = ["jobs", *words, "--socket", str(desk.socket)]
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


async def answer(desk: Desk, *words: str, code: int = 0) -> dict[str, Any]:
    """The one JSON object of stdout."""
    done = await call(desk, *words, "--json")
    assert done.exit_code == code, done.output
    [line] = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


async def given(db: Database, job: Any, **how: Any) -> str:
    async with db.begin(ANNA) as tx:
        return await put(tx, job, **how)


async def killed(db: Database, job: str) -> None:
    """Make the only ready job a dead letter."""
    [found] = await Claimer(db, "files", "w1").claim(5)
    assert found.lease.job_id == job
    await settle(db, "files", [Told(found.lease, found.type, "dead", error="OSError")])


async def test_empty_lists_say_what_there_is_none_of(desk: Desk) -> None:
    assert (await call(desk, "list")).stdout == "There is no unfinished job.\n"
    assert (await call(desk, "dead", "--type", "send_note")).stdout == "There is no dead letter, type send_note.\n"
    assert (await call(desk, "queues")).stdout == "No queue has a job, a worker or a pause.\n"
    assert await answer(desk, "list") == {"jobs": [], "next_page_token": ""}


async def test_a_dead_letter_is_found_looked_at_and_run_again(files: Database, desk: Desk) -> None:
    job = await given(files, TryTwice("hello"))
    await killed(files, job)
    told = await call(desk, "dead")
    assert job in told.stdout
    assert "OSError" in told.stdout
    assert "holdfast jobs retry" in told.stderr
    assert [one["name"] for one in (await answer(desk, "dead"))["jobs"]] == [f"jobs/{job}"]
    shown = await call(desk, "show", job)
    assert "try_twice of files, dead" in shown.stdout
    assert "hello" not in shown.stdout
    assert '"hello"' in (await call(desk, "show", job, "--payload")).stdout
    assert (await answer(desk, "retry", job))["state"] == "JOB_STATE_READY"
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(5)] == [job]


async def test_many_are_run_again_only_when_that_is_confirmed(files: Database, desk: Desk) -> None:
    for number in range(3):
        await killed(files, await given(files, SendNote(str(number))))
    refused = await call(desk, "retry", "--state", "dead")
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert len((await answer(desk, "dead"))["jobs"]) == 3
    done = await answer(desk, "retry", "--state", "dead", "--type", "send_note", "--yes")
    assert (done["retried_jobs"], done["skipped_jobs"]) == ("3", "0")
    assert (await call(desk, "retry", "--state", "dead", "--yes")).stdout == "0 jobs ready now.\n"
    for wrong in (["retry"], ["retry", "abc", "--state", "dead"], ["retry", "abc", "--type", "send_note"]):
        assert (await call(desk, *wrong)).exit_code == 2


async def test_a_cancelled_job_is_told_ended_and_a_running_one_asked(files: Database, desk: Desk) -> None:
    queued, running = (
        await given(files, SendNote("one"), run_at=support.IN_AN_HOUR),
        await given(files, SendNote("two")),
    )
    await Claimer(files, "files", "w1").claim(1)
    assert (await answer(desk, "cancel", queued))["state"] == "JOB_STATE_CANCELLED"
    asked = await call(desk, "cancel", running)
    assert "end asked" in asked.stdout
    assert f"holdfast jobs show jobs/{running}" in asked.stderr
    again = await call(desk, "cancel", queued)
    assert (again.exit_code, "[JOB_STATE_UNFIT]" in again.stderr) == (3, True)
    assert (await call(desk, "show", "0" * 26)).exit_code == 3


async def test_a_pause_tells_how_to_end_it_and_shows_among_the_queues(files: Database, desk: Desk) -> None:
    await given(files, SendNote("waits"))
    paused = await call(desk, "pause", "files", "--reason", "too hot")
    assert "holdfast jobs resume files default" in paused.stderr
    assert "No worker serves" in paused.stderr
    assert "too hot" in (await call(desk, "queues")).stdout
    [queue] = (await answer(desk, "queues"))["queues"]
    assert (queue["name"], queue["ready_jobs"], queue["pause_reason"]) == (
        "services/files/queues/default", "1", "too hot",
    )  # fmt: skip
    assert (await answer(desk, "resume", "files"))["pause_reason"] == ""
    assert "too hot" not in (await call(desk, "queues")).stdout
    assert (await call(desk, "pause", "nobody")).exit_code == 3


async def test_a_limit_says_that_there_are_more(files: Database, desk: Desk) -> None:
    for number in range(3):
        await given(files, SendNote(str(number)))
    assert "more than these 2" in (await call(desk, "list", "--limit", "2")).stderr
    assert "more than these 2" in (await call(desk, "list", "--limit", "2", "--json")).stderr
    assert "more than" not in (await call(desk, "list", "--limit", "3", "--state", "ready")).stderr


async def test_a_list_as_json_that_a_limit_cuts_off_has_the_token_of_its_next_page(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    jobs = [f"jobs/{await given(files, SendNote(str(number)))}" for number in range(3)]
    cut = await answer(desk, "list", "--limit", "2")
    assert [one["name"] for one in cut["jobs"]] == jobs[:0:-1]
    rest = await told(desk.stub.ListJobs(pb.ListJobsRequest(page_token=cut["next_page_token"]), timeout=20))
    assert [one.name for one in rest.jobs] == jobs[:1]
    assert (await answer(desk, "list", "--limit", "3"))["next_page_token"] == ""
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET state = 'dead', finished_at = clock_timestamp()")
    assert (await answer(desk, "dead", "--limit", "2"))["next_page_token"]
    assert "more than these 2" in (await call(desk, "dead", "--limit", "2", "--json")).stderr


async def test_a_service_that_is_not_there_has_its_own_exit_code(desk: Desk) -> None:
    gone = await asyncio.to_thread(
        CliRunner().invoke, main, ["jobs", "list", "--socket", str(desk.socket.parent / "nothing.sock")]
    )
    assert (gone.exit_code, "does not answer" in gone.stderr) == (4, True)


async def test_the_guard_is_told_and_released_with_a_decision(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    job = await given(files, SendNote("old"))
    assert "jobs may run" in (await call(desk, "guard")).stdout
    open_ = await call(desk, "release", "--requeue", "--yes")
    assert (open_.exit_code, "[GUARD_OPEN]" in open_.stderr) == (3, True)
    with database.admin() as admin:
        admin.execute("SELECT jobs.hold('the newest heartbeat is 3, but 9 is known', 'backup')")
    await desk.guard.quarantine()
    held = await call(desk, "guard")
    assert held.exit_code == 1
    assert "NO JOB RUNS" in held.stdout
    assert "the newest heartbeat is 3" in held.stdout
    assert "jobs release --requeue" in held.stderr
    assert (await answer(desk, "guard", code=1))["state"] == "GUARD_STATE_HELD"
    assert [one["name"] for one in (await answer(desk, "list", "--state", "quarantined"))["jobs"]] == [f"jobs/{job}"]
    assert (await call(desk, "release", "--yes")).exit_code == 2
    assert (await call(desk, "release", "--requeue")).exit_code == 2
    done = await answer(desk, "release", "--requeue", "--yes")
    assert (done["requeued_jobs"], done["guard"]["jobs_may_run"]) == ("1", True)
    assert (await call(desk, "guard")).exit_code == 0
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(5)] == [job]
