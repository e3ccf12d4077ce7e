"""A foreign program gets what it needs of our environment, and no secret of it; whoever waits for it can be stopped."""

import asyncio
from typing import Any

import pytest

from services.backup.adapters import command


async def test_a_foreign_program_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_SECRETS_DIR", "/secrets")
    monkeypatch.setenv("PGBACKREST_REPO1_CIPHER_PASS", "known")
    done = await command.run(["/usr/bin/env"], timeout_seconds=20)
    told = dict(line.split("=", 1) for line in done.out.splitlines())
    assert (done.code, told) == (0, dict(command.PATH))


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
