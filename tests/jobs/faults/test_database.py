"""What is done to the database under working processes: connections cut at any and at exact places, logins and writes
refused, the server crashed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.jobs.faults.conftest import Durable
from tests.jobs.faults.fleet import Fleet
from tests.jobs.faults.wire import CLAIM, SETTLE, wire
from tests.jobs.faults.worker import Step
from tests.support.waiting import until

pytestmark = pytest.mark.faults
LOAD = [Step(seconds=0.01), Step("parent"), Step()]


@asynccontextmanager
async def load(fleet: Fleet) -> AsyncIterator[None]:
    """Three workers that make periodic jobs too, and a producer; at the end all is finished and no promise broken."""
    await fleet.start("a", "b", "c", ticks=True)
    stop = asyncio.Event()
    producing = asyncio.create_task(fleet.produce(stop, LOAD, 0.02))
    try:
        await progress(fleet)
        yield
        await progress(fleet)
    finally:
        # Also after a failure: a producer that went on would fill the queue of every later test.
        stop.set()
        count = await producing
    assert count <= len((await fleet.finish()).put())


async def progress(fleet: Fleet, jobs: int = 10) -> None:
    """Wait until so many more jobs have ended well."""
    before = fleet.recorder.finished()
    await until(lambda: fleet.recorder.finished() >= before + jobs, "progress")


@pytest.mark.control("J1", "workers go on when the database comes back")
async def test_cutting_every_connection_again_and_again_loses_and_doubles_nothing(fleet: Fleet) -> None:
    async with load(fleet):
        cut = [fleet.cut_connections()]
        for _ in range(3):
            await progress(fleet, 5)
            cut.append(fleet.cut_connections())
    # Three workers and a producer hold at least one each; how many more are open at a moment is theirs to say.
    assert min(cut) >= 4


@pytest.mark.control("J1", "workers go on when the database comes back")
async def test_a_crash_of_the_database_under_load_loses_and_doubles_nothing(
    durable_fleet: Fleet, durable: Durable
) -> None:
    async with load(durable_fleet):
        durable.crash()
        durable.recover()


@pytest.mark.control("J1", "workers go on when the database comes back")
async def test_the_only_worker_runs_again_what_it_gave_up_in_a_long_outage(
    durable_fleet: Fleet, durable: Durable
) -> None:
    [only] = await durable_fleet.start("only")
    jobs = await durable_fleet.put(*[Step("hold")] * 3)
    await only.says("begin", times=3)
    durable.crash()
    await only.says("cancelled", times=3)
    durable.recover()
    await only.says("begin", times=6)
    only.let_go()
    history = await durable_fleet.finish()
    assert [history.began(job) for job in jobs] == [[("only", 1), ("only", 2)]] * 3


@pytest.mark.control("J1", "a completion the database did not take is written again")
@pytest.mark.parametrize(
    ("refuse", "relent"),
    [
        ("ALTER ROLE holdfast_files CONNECTION LIMIT 0", "ALTER ROLE holdfast_files CONNECTION LIMIT -1"),
        ("ALTER ROLE holdfast_files NOLOGIN", "ALTER ROLE holdfast_files LOGIN"),
        (
            "ALTER ROLE holdfast_files SET default_transaction_read_only = on",
            "ALTER ROLE holdfast_files RESET default_transaction_read_only",
        ),
        ("REVOKE INSERT ON jobs.history FROM holdfast_files", "GRANT INSERT ON jobs.history TO holdfast_files"),
    ],
    ids=["connections", "sign-in", "writes", "a privilege"],
)
async def test_work_goes_on_after_the_database_has_refused_something_for_a_while(
    fleet: Fleet, refuse: str, relent: str
) -> None:
    [worker] = await fleet.start("worker")
    jobs = await fleet.put(*[Step("hold")] * 6)
    await worker.says("begin", times=4)
    try:
        fleet.as_owner(refuse)
        worker.let_go()
        await worker.says("end", times=4)
        await until(lambda: worker.logged("cannot settle jobs yet"), "a refused completion")
        assert fleet.judge().finished() == set()
    finally:
        fleet.as_owner(relent)
    history = await fleet.finish()
    assert [history.began(job) for job in jobs] == [[("worker", 1)]] * 6


async def test_a_worker_that_was_not_allowed_to_claim_for_a_while_claims_afterwards(fleet: Fleet) -> None:
    [worker] = await fleet.start("worker")
    try:
        fleet.as_owner("REVOKE DELETE ON jobs.ready FROM holdfast_files")
        await fleet.put(Step())
        await until(lambda: worker.logged("begins again"), "a claim that was refused")
    finally:
        fleet.as_owner("GRANT DELETE ON jobs.ready TO holdfast_files")
    await fleet.finish()


@pytest.mark.control("J1", "an answer lost on its way loses and doubles nothing")
@pytest.mark.parametrize("after_commit", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("sign", "job"),
    [(CLAIM, Step()), (SETTLE, Step()), (SETTLE, Step("parent"))],
    ids=["claim", "settle", "transactional completion"],
)
async def test_a_wire_cut_at_a_commit_loses_and_doubles_nothing(
    fleet: Fleet, sign: bytes, job: Step, after_commit: bool
) -> None:
    cluster = fleet.database.cluster
    async with wire(cluster.socket_dir, cluster.port) as cut:
        fleet.login = replace(fleet.database.login("files"), database_host=str(cut.directory))
        await fleet.start("only", pooler=True)
        cut.cut(sign, after_commit=after_commit)
        [put] = await fleet.put(job)
        async with asyncio.timeout(20):
            await cut.was_cut.wait()
        history = await fleet.finish()
        fleet.kill_all()
    # Whether the job is run again depends on what was lost; that it took effect once does not.
    assert history.lines[put] == 1
    assert len(history.finished()) == (2 if job.how else 1)
