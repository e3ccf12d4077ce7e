"""A program on libs.process whose parts say on stdout what happens to them; run by test_process in a real subprocess.

argv[1] is a comma-separated list of manners: slow-start, fail-start, fail-task, forgotten-task, peer-task, fail-drain,
fail-stop, hang-thread, fail-check, break-check, fail-build. The rest goes to libs.process.main.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from libs import clock, process
from libs.config import ServiceConfig, setting
from libs.errors import InvalidArgument

MANNERS = frozenset(sys.argv[1].split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ServiceConfig):
    service: str = "example"
    greeting: str = setting("What is said at start.", default="hello")


def say(text: str) -> None:
    print(text, flush=True)


class Told:
    """A part that tells."""

    def __init__(self, name: str, greeting: str = "") -> None:
        self.name, self.greeting = name, greeting
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        say(f"{self.name} start {self.greeting}".strip())
        if self.name == "second":
            await self._second()

    async def _second(self) -> None:
        if "fail-start" in MANNERS:
            raise RuntimeError("canary-start")
        if "slow-start" in MANNERS:
            await asyncio.Event().wait()
        if "hang-thread" in MANNERS:
            process.STOP_SECONDS = 0.2
            asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        if "fail-task" in MANNERS:
            self.task = process.spawn(_fail(ValueError("canary-task")), name="loop")
        if "forgotten-task" in MANNERS:
            asyncio.get_running_loop().create_task(_fail(ValueError("canary-task")))
        if "peer-task" in MANNERS:
            asyncio.get_running_loop().create_task(_fail(ConnectionResetError()))

    def refuse(self) -> None:
        say(f"{self.name} refuse")

    async def drain(self, seconds: float) -> None:
        say(f"{self.name} drain {seconds:g}")
        if self.name == "second" and "fail-drain" in MANNERS:
            raise RuntimeError("canary-drain")
        await asyncio.sleep(0)
        say(f"{self.name} drained")

    async def stop(self) -> None:
        say(f"{self.name} stop")
        await process.cancel(self.task)
        if self.name == "second" and "fail-stop" in MANNERS:
            raise RuntimeError("canary-stop")


class Examined(Told):
    """A part that examines itself."""

    async def check(self) -> list[str]:
        if "break-check" in MANNERS:
            raise RuntimeError("canary-check")
        return ["the role is a superuser"] if "fail-check" in MANNERS else []


async def _fail(error: Exception) -> None:
    raise error


def build(config: Config, /, *, now: clock.Clock, ids: Callable[[], str]) -> process.App:
    if "fail-build" in MANNERS:
        raise RuntimeError("canary-build")
    asyncio.get_running_loop()
    parts = [Examined("first", config.greeting), Told("second"), Told("third")]
    return process.App(
        "example", parts, edge_notice_seconds=config.edge_notice_seconds, drain_seconds=config.drain_seconds
    )


def work(config: Config, /, *, now: clock.Clock, ids: Callable[[], str]) -> process.App:
    return process.App("example", [Told("worker")], edge_notice_seconds=0, drain_seconds=config.drain_seconds)


def migrate(environ: Mapping[str, str]) -> None:
    say(f"migrated {len(environ) > 0}")


async def greet(config: Config, subject: str) -> str:
    if not subject:
        raise InvalidArgument("Say whom to greet.")
    return f"{config.greeting} {subject}"


if __name__ == "__main__":
    process.main(Config, build, work=work, migrate=migrate, deeds={"greet": greet}, arguments=sys.argv[2:])
