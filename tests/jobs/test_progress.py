"""Progress of long jobs: fenced, bounded, and there for the next attempt."""

from datetime import UTC, datetime
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import JobInvalid, Lease, Retry, StaleLease, progress, put
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.jobqueue.rescue import rescue
from tests.jobs.doing import ANNA, claimed, execute, given, rows, working
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase
from tests.support.waiting import until


async def saved(files: Database, lease: Lease, value: Any) -> None:
    async with files.begin(lease.principal) as tx:
        await progress(tx, lease, value)


@pytest.mark.control("J2", "long jobs report progress that survives a retry")
async def test_a_long_job_goes_on_where_its_last_attempt_stopped(files: Database, database: TestDatabase) -> None:
    seen: list[Any] = []

    async def handle(job: SendNote, lease: Lease) -> Retry | None:
        seen.append(lease.progress)
        done = lease.progress["pages"] if lease.progress else 0
        await saved(files, lease, {"pages": done + 1})
        return Retry(datetime.now(UTC)) if done < 2 else None

    [job] = await given(files, SendNote("long"))
    async with working(files, {SendNote: handle}):
        await until(lambda: rows(database, "SELECT id FROM jobs.history") == [(job,)], "its end")
    assert seen == [None, {"pages": 1}, {"pages": 2}]


@pytest.mark.control("J2", "long jobs report progress that survives a retry")
@pytest.mark.parametrize("how", ["retry", "snooze", "release", "rescue", "scheduled"])
async def test_progress_survives_however_the_attempt_ended(files: Database, database: TestDatabase, how: str) -> None:
    await given(files, SendNote("long"))
    found = await claimed(files)
    await saved(files, found.lease, [1, "two"])
    if how == "rescue":
        execute(database, "UPDATE jobs.workers SET beat_at = '-infinity' WHERE id = 'w1'")
        assert len(await rescue(files, "files", dead_seconds=40)) == 1
    elif how == "scheduled":
        await settle(files, "files", [Told(found.lease, found.type, "retry", delay_seconds=3600)])
        execute(database, "UPDATE jobs.jobs SET run_at = clock_timestamp()")
        assert await Claimer(files, "files", "w2").promote() == 1
    else:
        await settle(files, "files", [Told(found.lease, found.type, how)])
    assert (await claimed(files, "w2")).lease.progress == [1, "two"]


@pytest.mark.control("J1", "a late writer changes nothing")
async def test_progress_of_a_lost_lease_changes_nothing_and_undoes_what_was_written_with_it(
    files: Database, database: TestDatabase
) -> None:
    async def save_and_put(lease: Lease, text: str) -> None:
        async with files.begin(ANNA) as tx:
            await put(tx, SendNote(text))
            await progress(tx, lease, text)

    await given(files, SendNote("long"))
    zombie = await claimed(files)
    await settle(files, "files", [Told(zombie.lease, zombie.type, "release")])
    with pytest.raises(StaleLease):
        await save_and_put(zombie.lease, "given back already")
    heir = await claimed(files, "w2")
    with pytest.raises(StaleLease):
        await save_and_put(zombie.lease, "late")
    await save_and_put(heir.lease, "in time")
    assert rows(database, "SELECT payload ->> 'text', progress FROM jobs.jobs ORDER BY id") == [
        ("long", "in time"),
        ("in time", None),
    ]


@pytest.mark.parametrize(
    "value",
    ["x" * 16_384, {"a": float("nan")}, b"bytes", {"at": datetime(2026, 1, 1, tzinfo=UTC)}, ["a\0"], "a\\\0", "\ud800"],
    ids=["too long", "no number", "bytes", "a time", "a zero", "a zero after a backslash", "half a character"],
)
async def test_progress_that_cannot_be_stored_is_refused_and_the_last_one_stays(
    files: Database, database: TestDatabase, value: Any
) -> None:
    await given(files, SendNote("long"))
    found = await claimed(files)
    await saved(files, found.lease, "as it was")
    with pytest.raises(JobInvalid):
        await saved(files, found.lease, value)
    assert rows(database, "SELECT progress FROM jobs.jobs") == [("as it was",)]


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "x"


async def test_progress_that_no_claim_could_read_is_refused_and_stops_no_queue(
    files: Database, database: TestDatabase
) -> None:
    await given(files, SendNote("long"))
    found = await claimed(files)
    for depth in (65, 500, 900):
        with pytest.raises(JobInvalid, match="64 deep"):
            await saved(files, found.lease, nested(depth))
    await saved(files, found.lease, nested(64))
    await settle(files, "files", [Told(found.lease, found.type, "release")])
    assert (await claimed(files)).lease.progress == nested(64)


@pytest.mark.parametrize("value", [None, 0, False, "\\u0000", "é" * 8000, {"a": [1.5, None, {"b": ""}]}])
async def test_whatever_json_can_hold_comes_back_as_it_was(files: Database, value: Any) -> None:
    await given(files, SendNote("long"))
    found = await claimed(files)
    await saved(files, found.lease, {"earlier": True})
    await saved(files, found.lease, value)
    await settle(files, "files", [Told(found.lease, found.type, "release")])
    assert (await claimed(files)).lease.progress == value
