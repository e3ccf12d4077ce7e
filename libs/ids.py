"""Server-made identifiers: opaque, lower-case, ordered by time of making so that indexes stay local."""

import os
import time
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26


def new_id() -> str:
    """A new id: 48 bits of milliseconds, 80 random bits, as 26 characters of Crockford's base 32. Source: ULID."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return _text(value)


def earliest(at: datetime) -> str:
    """The id that comes before every one made at *at* or later: for asking an index of ids by time."""
    return _text(int(at.timestamp() * 1000) << 80)


def _text(value: int) -> str:
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
