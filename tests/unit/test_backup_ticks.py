"""Heartbeats and marks: a period that begins while something of the one before is written is not passed over."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from services.backup.ops.heartbeats import Heartbeats
from services.backup.ops.marks import Marks

PERIOD = 45.0
UNUSED: Any = None


def heartbeats(now: Callable[[], datetime]) -> Any:
    return Heartbeats(UNUSED, UNUSED, guard=UNUSED, key=b"", period_seconds=PERIOD, now=now)


def marks(now: Callable[[], datetime]) -> Any:
    return Marks(UNUSED, key=b"", period_seconds=PERIOD, taken=UNUSED, now=now)


@pytest.mark.parametrize(("make", "verb"), [(heartbeats, "beat"), (marks, "take")])
async def test_a_period_that_began_during_a_slow_write_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[Callable[[], datetime]], Any], verb: str
) -> None:
    """The pause was counted from the end of the write: 88 seconds passed between two heartbeats of 45."""
    clock, ticks = [44.9], list[int]()

    async def slow(*, tick: int) -> None:
        ticks.append(tick)
        clock[0] += 0.3

    async def sleep(seconds: float) -> None:
        assert 0 <= seconds <= PERIOD
        clock[0] += seconds
        if len(ticks) == 4:
            raise asyncio.CancelledError

    part = make(lambda: datetime.fromtimestamp(clock[0], tz=UTC))
    monkeypatch.setattr(part, verb, slow)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await part._loop()
    assert ticks == [0, 1, 2, 3]
