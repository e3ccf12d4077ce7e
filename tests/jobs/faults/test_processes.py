"""What is done to worker processes: killed, stopped, blocked, replaced, given a wrong clock or an endless handler."""

import asyncio
import signal

import pytest

from tests.jobs.faults.fleet import Fleet, Process, stopped
from tests.jobs.faults.worker import Deaf, Step
from tests.support.waiting import until

pytestmark = pytest.mark.faults


@pytest.mark.control("J1", "a job of a dead worker runs again")
async def test_jobs_of_a_worker_killed_while_it_runs_them_are_finished_once_by_another(fleet: Fleet) -> None:
    [doomed] = await fleet.start("doomed", concurrency=2)
    jobs = await fleet.put(*[Step("hold")] * 4)
    await doomed.says("begin", times=2)
    doomed.kill()
    [heir] = await fleet.start("heir")
    await heir.says("begin", times=4)
    heir.let_go()
    history = await fleet.finish()
    taken = [job for job in jobs if ("doomed", 1) in history.began(job)]
    assert len(taken) == 2
    assert [history.began(job)[-1] for job in jobs] == [("heir", 2 if job in taken else 1) for job in jobs]


@pytest.mark.control("J1", "a late writer changes nothing")
async def test_what_a_worker_writes_after_it_was_stopped_past_its_lease_is_stale(fleet: Fleet) -> None:
    [zombie] = await fleet.start("zombie")
    [job] = await fleet.put(Step("hold"))
    await zombie.says("begin")
    with stopped(zombie):
        [heir] = await fleet.start("heir")
        await heir.says("begin")
        # Both are done when the zombie wakes up; its completion may reach the database before its heart does.
        zombie.let_go()
    await until(lambda: _told(zombie) or job in fleet.history().finished(), "the zombie's answer")
    assert fleet.judge().left[job].state == "running"
    heir.let_go()
    history = await fleet.finish()
    assert history.began(job) == [("zombie", 1), ("heir", 2)]
    assert heir.said("observed done")


def _told(zombie: Process) -> bool:
    """Whether it knows that it came too late: by the answer to its completion, or before that by its heart."""
    return bool(zombie.said("observed stale") or zombie.said("cancelled"))


async def test_a_blocked_event_loop_does_not_look_like_a_death(fleet: Fleet) -> None:
    await fleet.start("blocked", "idle", concurrency=1)
    jobs = await fleet.put(*[Step("block", seconds=2 * fleet.dead_seconds)] * 2)
    history = await fleet.finish()
    assert sorted(history.began(job) for job in jobs) == [[("blocked", 1)], [("idle", 1)]]


@pytest.mark.control("J1", "no worker's own clock decides anything")
async def test_a_worker_whose_clock_is_hours_off_takes_and_loses_jobs_like_any_other(fleet: Fleet) -> None:
    hours = 7 * 3600.0
    await fleet.start("early", ahead_seconds=-hours, concurrency=2)
    await fleet.start("late", ahead_seconds=hours, concurrency=2)
    [doomed] = await fleet.start("doomed", ahead_seconds=hours, concurrency=2)
    jobs = await fleet.put(*[Step(seconds=0.5)] * 12)
    await doomed.says("begin")
    doomed.kill()
    history = await fleet.finish()
    assert {by for job in jobs for by, _ in history.began(job)} == {"early", "late", "doomed"}
    lost = [job for job in jobs if len(history.began(job)) > 1]
    assert all(history.began(job)[0][0] == "doomed" for job in lost)


@pytest.mark.control("J1", "a handler that ignores its end costs its worker a slot and nobody the job")
async def test_a_job_whose_handler_ignores_its_deadline_goes_to_another_worker(fleet: Fleet) -> None:
    [stuck] = await fleet.start("stuck", concurrency=1)
    [job] = await fleet.put(Deaf())
    await stuck.says("ignored")
    [heir] = await fleet.start("heir", concurrency=1)
    await heir.says("end")
    # The slot is still taken by what cannot be stopped: this worker must not run a second handler beside it.
    [held] = await fleet.put(Step("hold"))
    await heir.says("begin", held)
    [other] = await fleet.put(Step())
    heir.let_go()
    await heir.says("end", other)
    assert len(stuck.said("begin")) == 1
    stuck.signal(signal.SIGUSR2)
    heir.signal(signal.SIGTERM)
    await heir.ends()
    [last] = await fleet.put(Step())
    history = await fleet.finish()
    assert history.began(job) == [("stuck", 1), ("heir", 2)]
    assert history.began(last) == [("stuck", 1)]


@pytest.mark.control("J1", "replacing every worker under load loses and doubles nothing")
async def test_replacing_every_worker_under_load_loses_and_doubles_nothing(fleet: Fleet) -> None:
    old = await fleet.start("a1", "b1", "c1")
    stop = asyncio.Event()
    producing = asyncio.create_task(fleet.produce(stop, [Step(seconds=0.02)] * 5, 0.02))
    with fleet.database.admin() as holder:
        # Nothing deleted can be cleaned away meanwhile.
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM jobs.jobs")
        for process in old:
            await process.says("end", times=20)
            process.signal(signal.SIGTERM)
            await fleet.start(process.name.replace("1", "2"))
            assert await process.ends() == 0
        stop.set()
        count = await producing
        history = await fleet.finish()
    assert len(history.put()) == count > 60
    assert max(len(history.began(job)) for job in history.put()) == 1
