"""One check of the ladder: timed, and failed rather than thrown when the copy could not even answer."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.backup.domain.drill import Check
from services.backup.domain.errors import EngineFailed


async def rung(name: str, question: Callable[[], Awaitable[Check]]) -> Check:
    """The check *name* that *question* makes, with its time. A damaged page ends one question, never the ladder."""
    began = time.monotonic()
    try:
        check = await question()
    except EngineFailed as error:
        check = Check(name, False, 0, error.message)
    return replace(check, elapsed_seconds=time.monotonic() - began)
