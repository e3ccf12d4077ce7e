"""Server-made identifiers: opaque, lower-case, ordered by time of making so that indexes stay local."""

import os
import time
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26


def new_id() -> str:
    """A new id: 48 bits of milliseconds, 80 random bits, as 26 characters of Crockford's base 32. Source: ULID."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return _text(value)


def earliest(at: datetime) -> str:
    """The id that comes before every one made at *at* or later: for asking an index of ids by time."""
    return _text(int(at.timestamp() * 1000) << 80)


def made_at(id_: str) -> datetime:
    """When *id_* was made, by its maker's clock. Raises ValueError when it is not an id of ours."""
    if len(id_) != LENGTH:
        raise ValueError("not as long as an id")
    value = 0
    for letter in id_:
        value = value << 5 | _ALPHABET.index(letter)
    return datetime.fromtimestamp((value >> 80) / 1000, UTC)


def _text(value: int) -> str:
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
