"""What a worker counts that meets its own lost job again: in this process, as no signal could hit the moment."""

import asyncio

from libs.jobqueue import Lease, Worker
from libs.jobqueue.claim import Found
from tests.jobs.doing import ANNA
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase


async def test_a_job_claimed_again_before_its_loss_was_told_ends_the_earlier_run_and_costs_both_slots(
    database: TestDatabase,
) -> None:
    told: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    release = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        told.put_nowait(("begun", lease.lease))
        try:
            await release.wait()
        except asyncio.CancelledError:
            told.put_nowait(("cancelled", lease.lease))
            await release.wait()

    worker = Worker(database.connect("files"), "files", {SendNote: handle}, concurrency=3)
    async with asyncio.timeout(20):
        worker._begin([found(1)])
        assert await told.get() == ("begun", 1)
        worker._begin([found(2)])
        assert {await told.get(), await told.get()} == {("begun", 2), ("cancelled", 1)}
    assert (worker._free(), worker._still_stuck()) == (2, 1)
    assert worker._holds("j", 2)
    assert not worker._holds("j", 1)
    release.set()


def found(lease: int) -> Found:
    return Found("send_note", '{"text": "again", "times": 1}', Lease("j", lease, 1, ANNA), 300)
