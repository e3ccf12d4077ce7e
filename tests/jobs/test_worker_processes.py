"""Workers in processes of their own: they are killed, stopped in the middle, and asked to end."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest

from libs.db import Database
from tests.jobs.doing import given, rows
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase
from tests.support.waiting import until


class Process:
    """A worker process of tests.jobs.samples and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.lines = process, list[str]()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().strip())

    def said(self, word: str) -> list[str]:
        return [line for line in self.lines if line.startswith(word)]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def worker_process(database: TestDatabase, *, hold: bool, drain: float = 5) -> AsyncIterator[Process]:
    """A started worker process; killed at the end if it still runs."""
    login = asdict(database.login("files"))
    login["database_password"] = login["database_password"]["value"].decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.jobs.samples", json.dumps(login), "hold" if hold else "go", str(drain),
        stdout=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    found = Process(process)
    reading = asyncio.create_task(found.read())
    try:
        await until(lambda: bool(found.said("started")), "the worker's start")
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


@pytest.mark.control("J1", "a job of a dead worker runs again")
async def test_a_job_of_a_killed_worker_runs_again_elsewhere(files: Database, database: TestDatabase) -> None:
    [job] = await given(files, SendNote("survives"))
    async with worker_process(database, hold=True) as first:
        await until(lambda: bool(first.said("begin")), "the first run")
        first.signal(signal.SIGKILL)
        await first.process.wait()
        async with worker_process(database, hold=False) as second:
            await until(lambda: bool(second.said("end")), "the second run")
            await until(lambda: rows(database, "SELECT id FROM jobs.history") == [(job,)], "its end")
    assert (first.said("begin"), first.said("end")) == ([f"begin {job} 1"], [])
    assert second.said("end") == [f"end {job} 2"]
    assert rows(database, "SELECT lease, crashes, failures FROM jobs.history") == [(2, 1, 0)]


async def test_a_worker_stopped_past_its_lease_ends_as_stale(files: Database, database: TestDatabase) -> None:
    [job] = await given(files, SendNote("once"))
    async with worker_process(database, hold=True) as sleeper:
        await until(lambda: bool(sleeper.said("begin")), "the first run")
        sleeper.signal(signal.SIGSTOP)
        async with worker_process(database, hold=False) as heir:
            await until(lambda: rows(database, "SELECT id, lease FROM jobs.history") == [(job, 2)], "the second run")
        sleeper.signal(signal.SIGCONT)
        sleeper.signal(signal.SIGUSR1)
        sleeper.signal(signal.SIGTERM)
        await sleeper.process.wait()
    assert heir.said("end") == [f"end {job} 2"]
    assert rows(database, "SELECT id, lease, outcome FROM jobs.history") == [(job, 2, "done")]
    assert rows(database, "SELECT id FROM jobs.jobs") == []


async def test_sigterm_lets_running_jobs_finish_and_loses_nothing(files: Database, database: TestDatabase) -> None:
    jobs = await given(files, *(SendNote(str(n)) for n in range(8)))
    async with worker_process(database, hold=True, drain=20) as worker:
        await until(lambda: len(worker.said("begin")) == 4, "four running jobs")
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGUSR1)
        assert await worker.process.wait() == 0
    ended = {line.split()[1] for line in worker.said("end")}
    assert (len(ended), worker.lines[-1]) == (4, "stopped")
    assert {row[0] for row in rows(database, "SELECT id FROM jobs.history")} == ended
    left = rows(database, "SELECT id, state, crashes FROM jobs.jobs")
    assert sorted(left) == sorted((job, "ready", 0) for job in jobs if job not in ended)
