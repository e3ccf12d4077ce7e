"""Time as a value: everything that needs the time is handed a Clock, so that tests can hold it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """The wall clock: aware, UTC."""
    return datetime.now(UTC)
