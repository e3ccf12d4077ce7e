"""A handler within one transaction: its writes and its job's end are both there, or neither."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from libs.db import Database, TryAgain, Tx
from libs.jobqueue import (
    Cancelled,
    Completed,
    Discard,
    Done,
    Handler,
    Lease,
    Outcome,
    Retry,
    Snooze,
    StaleLease,
    complete,
    in_transaction,
    put,
)
from libs.jobqueue.completion import Told, settle
from libs.principal import Organization, Principal, System
from tests.jobs.doing import ANNA, claimed, execute, given, rows, working
from tests.jobs.samples import SendNote, TryTwice
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

LATER = datetime.now(UTC) + timedelta(hours=2)
FOLLOWED = "SELECT count(*) FROM jobs.jobs WHERE type = 'try_twice'"


def following(files: Database, answer: Outcome | Exception | None) -> Handler[SendNote]:
    """A handler that puts another job and answers, or fails."""

    async def handle(tx: Tx, job: SendNote, lease: Lease) -> Outcome | None:
        await put(tx, TryTwice(job.text))
        if isinstance(answer, Exception):
            raise answer
        return await complete(tx, lease) if isinstance(answer, Completed) else answer

    return in_transaction(files, handle)


@pytest.mark.control("J1", "a late writer changes nothing")
@pytest.mark.parametrize(
    ("answer", "left", "followed"),
    [
        (None, ("done", ""), 1),
        (Done(), ("done", ""), 1),
        (Completed(), ("done", ""), 1),
        (Retry(LATER, "busy"), ("scheduled", "busy"), 0),
        (Snooze(LATER), ("scheduled", ""), 0),
        (Discard("too old"), ("discarded", "too old"), 0),
        (Cancelled(), ("cancelled", ""), 0),
        (KeyError("x"), ("scheduled", "KeyError"), 0),
    ],
    ids=str,
)
async def test_writes_stay_if_and_only_if_the_job_is_done(
    files: Database,
    database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
    answer: Outcome | Exception | None,
    left: tuple[str, str],
    followed: int,
) -> None:
    monkeypatch.setattr("libs.jobqueue.run.backoff_seconds", lambda attempt: 60.0)  # not due before it is looked at
    [job] = await given(files, SendNote("x"))
    ends = (
        f"SELECT outcome, error FROM jobs.history WHERE id = '{job}' UNION ALL SELECT state, error FROM jobs.jobs"
        f" WHERE id = '{job}' AND state NOT IN ('ready', 'running')"
    )
    events: list[tuple[str, str]] = []
    async with working(files, {SendNote: following(files, answer)}, events):
        await until(lambda: rows(database, ends) != [], "its end")
        assert (rows(database, ends), rows(database, FOLLOWED)) == ([left], [(followed,)])
    outcome = {"done": "done", "scheduled": "snooze" if isinstance(answer, Snooze) else "retry"}.get(left[0], left[0])
    assert [event for event, kind in events if kind == "send_note"] == ["claimed", outcome]


@pytest.mark.parametrize(("answer", "followed"), [("sent", 1), (True, 1), (Retry, 0)])
async def test_writes_of_a_handler_that_answers_anything_else_stay_as_its_job_is_done(
    files: Database, database: TestDatabase, answer: Any, followed: int
) -> None:
    [job] = await given(files, SendNote("x"))
    async with working(files, {SendNote: following(files, answer)}):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state IN ('ready', 'running')") == [], "ends")
    done = rows(database, "SELECT outcome FROM jobs.history WHERE id = %s", job)
    assert (rows(database, FOLLOWED), done) == ([(followed,)], [("done",)] * followed)


@pytest.mark.control("J1", "a late writer changes nothing")
async def test_a_handler_that_lost_its_job_meanwhile_writes_nothing(files: Database, database: TestDatabase) -> None:
    await given(files, SendNote("x"))
    zombie = await claimed(files)
    await settle(files, "files", [Told(zombie.lease, zombie.type, "release")])
    heir = await claimed(files, "w2")
    handle = following(files, None)
    with pytest.raises(StaleLease):
        await handle(SendNote("late"), zombie.lease)
    assert rows(database, FOLLOWED) == [(0,)]
    assert await handle(SendNote("in time"), heir.lease) == Completed()
    assert rows(database, FOLLOWED) == [(1,)]


async def test_a_handler_that_finds_its_lease_gone_is_counted_as_stale(files: Database, database: TestDatabase) -> None:
    async def handle(tx: Tx, job: SendNote, lease: Lease) -> None:
        if lease.lease == 1:
            execute(database, "UPDATE jobs.jobs SET lease = 5 WHERE id = %s", lease.job_id)

    events: list[tuple[str, str]] = []
    await given(files, SendNote("x"))
    async with working(files, {SendNote: in_transaction(files, handle)}, events):
        await until(lambda: ("stale", "send_note") in events, "its count")
    assert events.count(("stale", "send_note")) == 1
    assert rows(database, "SELECT 1 FROM jobs.history") == []


@pytest.mark.parametrize("who", [ANNA, Organization("elm"), System("files")])
async def test_the_transaction_is_armed_for_whom_the_job_works_for(files: Database, who: Principal) -> None:
    seen: list[Any] = []

    async def handle(tx: Tx, job: SendNote, lease: Lease) -> None:
        armed = "SELECT current_setting('holdfast.organization_id'), current_setting('holdfast.user_id')"
        seen.extend((await tx.execute(text(armed))).one())
        seen.append(tx.principal == lease.principal)

    await given(files, SendNote("x"), who=who)
    await in_transaction(files, handle)(SendNote("x"), (await claimed(files)).lease)
    assert seen == [getattr(who, "organization_id", ""), getattr(who, "user_id", ""), True]


async def test_a_transaction_that_met_another_one_is_run_again_under_the_same_lease(
    files: Database, database: TestDatabase
) -> None:
    leases: list[Lease] = []

    async def handle(tx: Tx, job: SendNote, lease: Lease) -> None:
        leases.append(lease)
        await put(tx, TryTwice(job.text))
        if len(leases) == 1:
            raise TryAgain("met another one")

    await given(files, SendNote("x"))
    found = await claimed(files)
    assert await in_transaction(files, handle)(SendNote("x"), found.lease) == Completed()
    assert leases == [found.lease, found.lease]
    assert rows(database, FOLLOWED) == [(1,)]
