"""One queue under measurement: its program run in its interpreter against a database of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.queues.environment import Peers
from tests.bench.queues.server import OURS, Server
from tests.support.stack import ROOT

COMMAND_SECONDS = 900.0
DRAIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """program: module of tests.bench.queues; label: name and version; settings: what is chosen for it, for people.

    jobs: how many it drains in a round. environment: variables its program reads.
    """

    server: Server
    python: str
    program: str
    label: str
    settings: str
    jobs: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def template(self) -> str:
        """Its template database."""
        return f"{self.program}_template"

    def fresh(self, name: str = "run") -> str:
        """A new database with its tables and nothing in them."""
        return self.server.copy(self.template, f"{self.program}_{name}")

    def run(self, database: str, command: str, *numbers: float, **more: str) -> dict[str, Any]:
        """The answer of its program."""
        with self._started(database, command, *numbers, **more) as process:
            return _answer(process, f"{self.program} {command}")

    def put(self, database: str, jobs: int, **more: str) -> float:
        """Jobs a second."""
        return jobs / float(self.run(database, "put", jobs, **more)["seconds"])

    def drain(self, database: str, jobs: int, seconds: float = DRAIN_SECONDS, **more: str) -> dict[str, Any]:
        """The program's answer; fewer than *jobs* were handled when the seconds were over before."""
        self.server.settle(database)
        answer = self.run(database, "drain", jobs, seconds, **more)
        assert answer["handled"] <= jobs, f"{self.label} ran {answer['handled']} of {jobs} jobs"
        return answer

    def drained(self) -> tuple[float, float]:
        """A fresh database is filled and drained: jobs a second from the worker's start, its processor µs a job."""
        database = self.fresh()
        self.put(database, self.jobs)
        answer = self.drain(database, self.jobs)
        assert answer["handled"] == self.jobs, f"{self.label} ran {answer['handled']} of {self.jobs} jobs"
        return self.jobs / float(answer["seconds"]), float(answer["cpu"]) / self.jobs * 1e6

    def watched(self, jobs: int, seconds: float, producer: str, *numbers: float) -> dict[str, Any]:
        """What a worker of a fresh database answers while another process runs *producer*, which puts *jobs* jobs."""
        database = self.fresh()
        with self._started(database, "consume", jobs, seconds) as consumer:
            assert consumer.stdout is not None
            assert consumer.stdout.readline() == "ready\n", f"{self.label} did not start"
            self.run(database, producer, *numbers)
            return _answer(consumer, f"{self.program} consume")

    def _started(self, database: str, command: str, *numbers: float, **more: str) -> "subprocess.Popen[str]":
        variables = {**os.environ, **self.server.environment(database), **self.environment, **more}
        program = [self.python, "-m", f"tests.bench.queues.{self.program}", command, *map(str, numbers)]
        return subprocess.Popen(program, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)


def _answer(process: "subprocess.Popen[str]", what: str) -> dict[str, Any]:
    try:
        told, _ = process.communicate(timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, f"{what} ended with {process.returncode}"
    answer: dict[str, Any] = json.loads(told.splitlines()[-1])
    return answer


def sides(server: Server, made: Peers, scale: float, *programs: str) -> dict[str, Side]:
    """Ours and the peers, those of *programs* only if given, each with its tables made. scale: of the jobs of a full
    round.
    """

    def peer(name: str, program: str, settings: str, jobs: int, **environment: str) -> Side:
        label = f"{name} {made.version(name)}"
        return Side(
            server=server, python=str(made.python), program=program, label=label, settings=settings,
            jobs=int(jobs * scale), environment=environment,
        )  # fmt: skip

    ours = Side(
        server=server, python=sys.executable, program=OURS, label="libs.jobqueue",
        settings="one Worker, concurrency 6000, 10 tenants, put_many on 4 connections", jobs=int(150_000 * scale),
    )  # fmt: skip
    tuned = "2 managers × batch 100, asyncpg, uvloop, pgq autovac, durable, enqueue arrays on 4 connections"
    found = {
        "ours": ours,
        "pgqueuer": peer("pgqueuer", "pgqueuer", tuned, 60_000, BENCH_MANAGERS="2", BENCH_BATCH="100"),
        "pgqueuer default": peer(
            "pgqueuer", "pgqueuer", "1 manager × batch 10, its defaults", 20_000, BENCH_MANAGERS="1", BENCH_BATCH="10"
        ),
        "awa": peer("awa-pg", "awa", "queue storage, max_workers 1000, enqueue_many_copy on 4 connections", 20_000),
        "procrastinate": peer(
            "procrastinate", "procrastinate", "concurrency 20, 10 connections, delete_jobs successful, batch_defer",
            2_000,
        ),
    }  # fmt: skip
    found = {name: side for name, side in found.items() if not programs or side.program in programs}
    for each in {side.program: side for side in found.values()}.values():
        server.template(each.program)
        each.run(each.template, "schema")
    return found
