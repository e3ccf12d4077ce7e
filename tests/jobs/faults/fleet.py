"""Worker processes that can be started quickly, and done anything to."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psycopg

from libs.db import Database
from libs.errors import Unavailable
from libs.jobqueue import put_many
from libs.principal import User
from tests.jobs.faults.history import History, violations
from tests.jobs.faults.recorder import Recorder, say
from tests.jobs.faults.worker import QUICK, Setup, run
from tests.support.postgres import Login, TestDatabase
from tests.support.waiting import until

ANNA, BERT = User("oak", "anna"), User("birch", "bert")
_JOIN_SECONDS = 20.0


class Process:
    """One worker process and what it has said."""

    def __init__(self, setup: Setup, process: ForkServerProcess) -> None:
        self.setup, self._process = setup, process
        self.name = setup.name

    def said(self, *words: str) -> list[str]:
        """Its lines that begin with *words*."""
        return [line for line in self._lines() if line.startswith(" ".join(words))]

    def logged(self, text: str) -> bool:
        """Whether some line holds *text*."""
        return any(text in line for line in self._lines())

    def _lines(self) -> list[str]:
        return self.setup.lines.read_text().splitlines() if self.setup.lines.exists() else []

    async def says(self, *words: str, times: int = 1) -> None:
        """Wait until it has said so."""
        await until(lambda: len(self.said(*words)) >= times, f"{self.name}: {times} × {' '.join(words)}")

    async def ends(self) -> int | None:
        """Wait until it has ended, for its exit code; negative for the signal that ended it."""
        await until(lambda: self._process.exitcode is not None, f"{self.name}'s end")
        return self._process.exitcode

    def signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def let_go(self) -> None:
        """Let the handlers that hold go on."""
        self.signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Kill −9, and wait until it is gone."""
        self._process.kill()
        self._process.join(_JOIN_SECONDS)


@dataclass(slots=True)
class Fleet:
    """The workers of one test, its producer, and the record of what they did."""

    database: TestDatabase
    files: Database
    recorder: Recorder
    directory: Path
    processes: list[Process] = field(default_factory=list)
    login: Login | None = None
    dead_seconds: float = QUICK.dead_seconds

    async def start(self, *names: str, **how: Any) -> list[Process]:
        """Worker processes that have begun to work; *how* are fields of their Setup."""
        made = [self._start(name, how) for name in names]
        for process in made:
            await process.says("started")
        return made

    def _start(self, name: str, how: dict[str, Any]) -> Process:
        setup = Setup(**{
            "name": name, "login": self.login or self.database.login("files"), "recorder": self.recorder,
            "lines": self.directory / f"{name}.lines", **how,
        })  # fmt: skip
        process = Process(setup, _CONTEXT.Process(target=run, args=(setup,), daemon=True))
        process._process.start()
        self.processes.append(process)
        return process

    async def put(self, *jobs: Any, who: User = ANNA) -> list[str]:
        """Put *jobs* in one transaction and write down that they are there."""
        async with self.files.begin(who) as tx:
            made = await put_many(tx, jobs)
        await until(lambda: self._noted(made), "writing down what was put")
        return made

    def _noted(self, jobs: Sequence[str]) -> bool:
        try:
            with self.recorder.open() as connection, connection.transaction():
                for job in jobs:
                    say(connection, "put", job, 0, "producer")
        except psycopg.Error:
            return False
        return True

    async def produce(self, stop: asyncio.Event, jobs: Sequence[Any], every_seconds: float) -> int:
        """Put *jobs* again and again until *stop*; returns how many the database said are there."""
        count = 0
        while not stop.is_set():
            with suppress(Unavailable):
                count += len(await self.put(*jobs, who=BERT if count % 2 else ANNA))
            await asyncio.sleep(every_seconds)
        return count

    def history(self) -> History:
        return self.recorder.history(self.dead_seconds)

    def judge(self) -> History:
        """The history, which breaks no promise."""
        found = self.history()
        faults = violations(found)
        assert not faults, "\n".join(faults)
        return found

    async def finish(self) -> History:
        """The history once every job that was put has ended well, none of them dead; it breaks no promise."""
        history = await self.settle()
        told = [f"{job}: {left.state} still" for job, left in history.left.items()]
        assert not told, "\n".join(told)
        assert history.put() <= history.finished()
        return history

    async def settle(self) -> History:
        """The history once nothing is left to do, whatever became of each job; it breaks no promise."""
        try:
            await until(self._nothing_to_do, "the end of every job")
        except AssertionError:
            self.judge()
            raise
        return self.judge()

    def _nothing_to_do(self) -> bool:
        return all(left.state == "dead" for left in self.recorder.left().values())

    def cut_connections(self) -> int:
        """Have the server end every connection of the service's login; returns how many."""
        with self.database.admin() as admin:
            cut = admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'holdfast_files'"
                " AND datname = current_database()"
            )
            return int(str(cut.fetchall()[0][0]))

    def as_owner(self, statement: str) -> None:
        """Run *statement* as superuser, for new connections."""
        with self.database.admin() as admin:
            admin.execute(statement.encode())
        self.cut_connections()

    def kill_all(self) -> None:
        """End what is left."""
        for process in self.processes:
            process.kill()


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """SIGSTOP, and at the end SIGCONT."""
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


_CONTEXT = multiprocessing.get_context("forkserver")
# Loaded once, in a process that has neither threads nor an event loop; a worker is then there in no time.
_CONTEXT.set_forkserver_preload(["pytest", "tests.jobs.faults.worker"])
