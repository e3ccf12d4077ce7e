"""The life of a process, by real processes and real signals."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0
SECRET = b"q7Zt0vN2mXc81LrKp5Yw9sHd3Jf6BgTa"
LAST = "third start"
SHUTDOWN = [
    "first refuse",
    "second refuse",
    "third refuse",
    "first drain 3",
    "second drain 3",
    "third drain 3",
    "first drained",
    "second drained",
    "third drained",
    "third stop",
    "second stop",
    "first stop",
]


class Program:
    """The example program as a child process."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.said: list[str] = []

    async def until(self, line: str) -> None:
        """Wait for *line* on stdout."""
        assert self.child.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while line not in self.said:
                read = await self.child.stdout.readline()
                assert read, f"{line!r} was never said: {self.said}"
                self.said.append(read.decode().rstrip("\n"))

    async def logged(self, event: str) -> dict[str, object]:
        """Wait for a log line with *event* on stderr."""
        assert self.child.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while read := await self.child.stderr.readline():
                line: dict[str, object] = json.loads(read)
                if line["event"] == event:
                    return line
        raise AssertionError(f"{event} was never logged")

    async def end(self) -> tuple[int, list[str], str]:
        """(exit code, all of stdout by line, the rest of stderr)."""
        async with asyncio.timeout(DEADLINE):
            out, err = await self.child.communicate()
        self.said += out.decode().splitlines()
        assert self.child.returncode is not None
        return self.child.returncode, self.said, err.decode()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "database_password").write_bytes(SECRET)
    (tmp_path / "database_password").chmod(0o600)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "libs/client/src"))),
        "HOLDFAST_GRPC_ADDRESS": "unix:/run/holdfast/example.sock",
        "HOLDFAST_DATABASE_HOST": "/run/holdfast",
        "HOLDFAST_DATABASE_USER": "holdfast_example",
        "HOLDFAST_SECRETS_DIR": str(tmp_path),
        "HOLDFAST_EDGE_NOTICE_SECONDS": "0",
        "HOLDFAST_DRAIN_SECONDS": "3",
    }


@asynccontextmanager
async def program(environ: dict[str, str], *arguments: str, manners: str = "none") -> AsyncIterator[Program]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "tests.unit.programs.example", manners, *arguments)
    child = await asyncio.create_subprocess_exec(*command, env=environ, cwd=ROOT, stdout=pipe, stderr=pipe)
    try:
        yield Program(child)
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_refuses_drains_and_stops_in_order_and_the_exit_code_is_0(
    environ: dict[str, str], number: signal.Signals
) -> None:
    async with program(environ) as running:
        await running.until(LAST)
        await running.logged("serving")
        running.child.send_signal(number)
        code, said, _ = await running.end()
    assert code == 0
    assert said == ["first start hello", "second start", LAST, *SHUTDOWN]


async def test_the_edge_gets_notice_before_anything_drains_and_a_second_signal_ends_at_once(
    environ: dict[str, str],
) -> None:
    async with program(environ | {"HOLDFAST_EDGE_NOTICE_SECONDS": "300"}) as running:
        await running.until(LAST)
        await running.logged("serving")
        running.child.send_signal(signal.SIGTERM)
        await running.until("third refuse")
        await running.logged("refusing")
        running.child.send_signal(signal.SIGTERM)
        code, said, _ = await running.end()
    assert code == 128 + signal.SIGTERM
    assert said[-1] == "third refuse"


async def test_a_signal_during_start_stops_what_has_begun(environ: dict[str, str]) -> None:
    async with program(environ, manners="slow-start") as running:
        await running.until("second start")
        running.child.send_signal(signal.SIGTERM)
        code, said, _ = await running.end()
    assert code == 0
    assert said == ["first start hello", "second start", "second stop", "first stop"]


async def test_a_part_that_cannot_start_stops_what_has_begun_and_the_exit_code_is_1(environ: dict[str, str]) -> None:
    async with program(environ, manners="fail-start") as running:
        code, said, err = await running.end()
    assert code == 1
    assert said == ["first start hello", "second start", "second stop", "first stop"]
    assert "part_failed_to_start" in err
    assert "RuntimeError" in err
    assert "canary-start" not in err


@pytest.mark.parametrize("manner", ["fail-task", "forgotten-task"])
async def test_a_task_that_fails_unseen_is_logged_and_ends_the_process_with_1(
    environ: dict[str, str], manner: str
) -> None:
    async with program(environ, manners=manner) as running:
        code, said, err = await running.end()
    assert code == 1
    assert said[-len(SHUTDOWN) :] == SHUTDOWN
    assert "task_failed" in err
    assert "canary-task" not in err


async def test_a_forgotten_task_whose_peer_left_does_not_end_the_process(environ: dict[str, str]) -> None:
    async with program(environ, manners="peer-task") as running:
        await running.logged("loop_fault")
        running.child.send_signal(signal.SIGTERM)
        code, _, _ = await running.end()
    assert code == 0


@pytest.mark.parametrize(("manner", "event"), [("fail-drain", "drain_failed"), ("fail-stop", "stop_failed")])
async def test_a_part_that_fails_to_leave_does_not_keep_the_others_from_leaving(
    environ: dict[str, str], manner: str, event: str
) -> None:
    async with program(environ, manners=manner) as running:
        await running.until(LAST)
        await running.logged("serving")
        running.child.send_signal(signal.SIGTERM)
        code, said, err = await running.end()
    assert code == 1
    assert said[-3:] == SHUTDOWN[-3:]
    assert event in err
    assert "canary" not in err


async def test_a_thread_that_hangs_does_not_keep_the_process(environ: dict[str, str]) -> None:
    async with program(environ, manners="hang-thread") as running:
        await running.until(LAST)
        await running.logged("serving")
        running.child.send_signal(signal.SIGTERM)
        code, said, _ = await running.end()
    assert code == 1
    assert said[-1] == "first stop"


async def test_a_refused_configuration_lists_every_fault_and_exits_78(environ: dict[str, str]) -> None:
    async with program(environ | {"HOLDFAST_DATABASE_PORT": "x", "HOLDFAST_GREETINGS": "y"}) as running:
        code, said, err = await running.end()
    assert (code, said) == (78, [])
    assert err.splitlines() == [
        "example: the configuration is refused:",
        "  - HOLDFAST_DATABASE_PORT is not a whole number",
        "  - HOLDFAST_GREETINGS is no setting of this service; HOLDFAST_GREETING is",
    ]


async def test_a_fault_in_the_composition_exits_70(environ: dict[str, str]) -> None:
    async with program(environ, manners="fail-build") as running:
        code, said, err = await running.end()
    assert (code, said) == (70, [])
    assert "canary-build" not in err


async def test_check_prints_what_the_parts_find(environ: dict[str, str]) -> None:
    async with program(environ, "check", "--json") as running:
        code, said, _ = await running.end()
    assert code == 0
    assert json.loads(said[-1]) == {"ok": True, "service": "example", "faults": []}
    async with program(environ, "check", "--json", manners="fail-check") as running:
        code, said, _ = await running.end()
    assert code == 1
    assert json.loads(said[-1])["faults"] == ["Examined: the role is a superuser"]
    assert said[:-1] == ["first start hello", "first stop"]
    async with program(environ, "check", manners="break-check") as running:
        code, said, err = await running.end()
    assert code == 1
    assert said[-2:] == ["fault: Examined: RuntimeError while it was examined", "example: 1 found"]
    assert "canary-check" not in err


async def test_check_of_a_refused_configuration_is_one_object_too(environ: dict[str, str]) -> None:
    async with program(environ | {"HOLDFAST_DATABASE_PORT": "x"}, "check", "--json") as running:
        code, said, _ = await running.end()
    assert code == 78
    assert json.loads("".join(said)) == {
        "ok": False,
        "service": "example",
        "faults": ["HOLDFAST_DATABASE_PORT is not a whole number"],
    }


async def test_work_runs_the_worker_alone_and_migrate_needs_no_service_configuration(environ: dict[str, str]) -> None:
    async with program(environ, "work") as running:
        await running.until("worker start")
        await running.logged("serving")
        running.child.send_signal(signal.SIGTERM)
        code, said, _ = await running.end()
    assert (code, said) == (0, ["worker start", "worker refuse", "worker drain 3", "worker drained", "worker stop"])
    async with program({name: environ[name] for name in ("PATH", "PYTHONPATH")}, "migrate") as running:
        code, said, _ = await running.end()
    assert (code, said) == (0, ["migrated True"])


async def test_a_verb_done_once_prints_its_answer_and_a_refusal_is_told_in_words_with_1(
    environ: dict[str, str],
) -> None:
    async with program(environ, "greet", "ada") as running:
        code, said, _ = await running.end()
    assert (code, said) == (0, ["hello ada"])
    async with program(environ, "greet") as running:
        code, said, err = await running.end()
    assert (code, said, err) == (1, [], "Say whom to greet.\n")
    async with program(environ | {"HOLDFAST_DATABASE_PORT": "x"}, "greet", "ada") as running:
        code, said, _ = await running.end()
    assert (code, said) == (78, [])


async def test_an_unknown_verb_exits_64_and_help_shows_the_settings(environ: dict[str, str]) -> None:
    async with program(environ, "dance") as running:
        code, _, err = await running.end()
    assert code == 64
    assert "dance" in err
    async with program(environ, "--help") as running:
        code, said, _ = await running.end()
    assert code == 0
    assert any(line.startswith("HOLDFAST_GREETING") for line in said)
