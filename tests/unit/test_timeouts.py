"""Waiting with an end, also at the end of the task that waits."""

import asyncio
import gc

import pytest

from libs import process, timeouts


async def test_work_gives_what_it_gives_and_a_time_out_ends_it() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert await timeouts.within(20, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(TimeoutError):
        await timeouts.within(0.01, endless())
    assert ended.is_set()


async def test_a_time_out_is_one_in_a_task_that_is_being_cancelled_too() -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await timeouts.within(0.01, asyncio.Event().wait())
            except TimeoutError:
                said.append("its time is over")

    running = asyncio.create_task(work())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert (running.cancelled(), said) == (True, ["its time is over"])


async def test_work_that_fails_as_its_waiter_is_cancelled_is_no_fault_that_nobody_looked_at() -> None:
    """To the process, a failed task that nobody looks at is a reason to end."""
    unseen: list[object] = []
    loop, failing = asyncio.get_running_loop(), asyncio.Event()

    async def work() -> None:
        await failing.wait()
        raise OSError

    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, told: unseen.append(told["message"]))
    try:
        running = asyncio.create_task(timeouts.within(20, work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        failing.set()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
        del running
        gc.collect()
        assert unseen == []
    finally:
        loop.set_exception_handler(before)


class _Part:
    """Starts at once, and stops at once or never."""

    def __init__(self, *, starts: bool = True, stops: bool = True) -> None:
        self.starts, self.stops, self.stopped = starts, stops, False

    async def start(self) -> None:
        await (asyncio.sleep(0) if self.starts else asyncio.Event().wait())

    def refuse(self) -> None:
        return

    async def drain(self, seconds: float) -> None:
        return

    async def stop(self) -> None:
        self.stopped = True
        await (asyncio.sleep(0) if self.stops else asyncio.Event().wait())


async def test_a_part_that_does_not_stop_when_a_start_is_cancelled_keeps_no_other_from_being_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.05)
    first, stuck, third = _Part(), _Part(stops=False), _Part(starts=False)
    starting = asyncio.create_task(
        process.App("files", [first, stuck, third], edge_notice_seconds=0, drain_seconds=1).start()
    )
    await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.wait({starting})
    assert (third.stopped, stuck.stopped, first.stopped) == (True, True, True)
