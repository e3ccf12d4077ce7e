"""Waiting for so long and no longer, where the task that waits may itself be at its end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives. Raises TimeoutError, with *work* cancelled and ended, when that takes longer.

    For what has to be done also by a task that was cancelled: there asyncio.timeout of Python 3.11.2, Debian 12's,
    raises CancelledError when its time is over. asyncio.wait_for of every 3.11 can lose a cancellation.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        # Also when it has ended together with a cancellation of ours: nobody else would look at how.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    raise TimeoutError
