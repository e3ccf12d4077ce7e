"""Run a transaction again when it lost against another one."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from libs.db.errors import TryAgain

P = ParamSpec("P")
R = TypeVar("R")

_ATTEMPTS = 5
_FIRST_SECONDS = 0.01


def retrying(operation: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Decorate an operation that opens its own transaction: 40001 and 40P01 run it again, at most five times in all.

    Waits are drawn anew up to a bound that doubles from 10 ms, so that two losers do not meet again.
    """

    @wraps(operation)
    async def again(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(_ATTEMPTS - 1):
            try:
                return await operation(*args, **kwargs)
            except TryAgain:
                await asyncio.sleep(random.uniform(0, _FIRST_SECONDS * 2**attempt))
        return await operation(*args, **kwargs)

    return again
