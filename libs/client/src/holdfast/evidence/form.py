"""The bytes of evidence: one spelling for each value, so that a hash or signature covers exactly what is read."""

import hashlib
import json
from typing import Any

NOTHING = "0" * 64
"""`previous` of the first record, and the head of an empty chain."""
RECORD = b"holdfast evidence record 1\n"
TRAILER = b"holdfast evidence trailer 1\n"
MOST = 2**53 - 1
"""The largest whole number every JSON reader keeps exactly."""
_DEEPEST = 12


def canonical(value: Any) -> bytes:
    """The one spelling of *value*. Raises ValueError for what has none: fractions, large numbers, foreign types.

    Source: RFC 8785; with ASCII names and whole numbers its rules are those of the encoder used here.
    """
    _check(value, _DEEPEST)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def read(line: bytes) -> Any:
    """The value of which *line* is the canonical form. Raises ValueError when it is not that of any."""
    value = json.loads(line.decode())
    if canonical(value) != line:
        raise ValueError("not in canonical form")
    return value


def digest(body: Any) -> str:
    """Hex SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(body)).hexdigest()


def commitment(facts: Any, salt: str) -> str:
    """What binds internal *facts* to a body; *salt*: random, hex."""
    return hashlib.sha256(salt.encode() + b"\n" + canonical(facts)).hexdigest()


def _check(value: Any, deepest: int) -> None:
    if deepest == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str) or not name.isascii():
                raise ValueError("the name of a member is not ASCII text")
            _check(item, deepest - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, deepest - 1)
    elif isinstance(value, int):  # a bool too
        if abs(value) > MOST:
            raise ValueError("a number is too large")
    elif value is not None and not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} has no canonical form")
