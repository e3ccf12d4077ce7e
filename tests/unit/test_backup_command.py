"""A foreign program gets what it needs of our environment, and no secret of it; whoever waits for it can be stopped."""

import asyncio
from typing import Any

import pytest

from services.backup.adapters import command
from tests.support.waiting import until


async def test_a_foreign_program_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_SECRETS_DIR", "/secrets")
    monkeypatch.setenv("PGBACKREST_REPO1_CIPHER_PASS", "known")
    done = await command.run(["/usr/bin/env"], timeout_seconds=20)
    told = dict(line.split("=", 1) for line in done.out.splitlines())
    assert (done.code, told) == (0, dict(command.PATH))


async def test_a_program_that_ignores_its_end_is_ended_by_force_when_its_waiter_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a task that is being cancelled the time it was given ended as a cancellation, and it lived on."""
    monkeypatch.setattr(command, "_GRACE_SECONDS", 0.1)
    children: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def started(*argv: Any, **how: Any) -> asyncio.subprocess.Process:
        children.append(await start(*argv, **how))
        return children[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]
    running = asyncio.create_task(command.run(stubborn, timeout_seconds=60))
    await until(lambda: bool(children), "its start")
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert children[0].returncode is not None


class _Program:
    """A child that ends when the test says so."""

    returncode = 0
    pid = 1 << 30  # nobody's: beyond the greatest number a process can have

    def __init__(self) -> None:
        self.said: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()

    async def start(self, *_: Any, **__: Any) -> "_Program":
        return self

    async def communicate(self) -> tuple[bytes, bytes]:
        self.begun.set()
        return await self.said

    async def wait(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        raise ProcessLookupError


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_at_the_moment_a_program_ends_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """A look at a backup's progress that ended together with the backup left both hanging for ever."""
    child = _Program()
    monkeypatch.setattr(asyncio, "create_subprocess_exec", child.start)
    running = asyncio.create_task(command.run(["program"], timeout_seconds=20))
    await child.begun.wait()
    child.said.set_result((b"done", b""))
    for _ in range(turns):
        await asyncio.sleep(0)
    asked = running.cancel()  # False: it had returned already
    await asyncio.wait({running})
    assert running.cancelled() == asked
    assert asked or turns
