"""Waiting for something to become true, with a deadline, in tests."""

import asyncio
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 20.0
_BETWEEN_SECONDS = 0.02


async def until(condition: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    """Return once *condition* holds; fails naming *what* when it does not within 20 s."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                answer = condition()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(_BETWEEN_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {DEADLINE_SECONDS} seconds") from None
