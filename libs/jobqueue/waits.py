"""Waits of a worker, never two alike: replicas that began together must not ask together for ever."""

import asyncio
import random


def drawn(seconds: float) -> float:
    """Between half of *seconds* and all of it."""
    return random.uniform(seconds / 2, seconds)


async def soon(event: asyncio.Event, seconds: float) -> None:
    """Wait for *event*, for drawn *seconds* at most."""
    try:
        async with asyncio.timeout(drawn(seconds)):
            await event.wait()
    except TimeoutError:
        return
