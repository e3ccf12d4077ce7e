"""Which bytes of a file are wanted."""

import re
from dataclasses import dataclass

from services.files.domain.errors import RangeNotSatisfiable

_RANGE = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from start on, length of them (0 for none); ranged: they were asked for by a Range header."""

    start: int
    length: int
    ranged: bool = False

    @property
    def last(self) -> int:
        """The position of the last byte; start - 1 when there is none."""
        return self.start + self.length - 1


def slice_of(size_bytes: int, *, offset: int, length: int) -> Span:
    """The part of a file of *size_bytes* from *offset* on; length 0 means all that follow, too much means the rest.

    Raises RangeNotSatisfiable when *offset* lies behind the end (the end itself is allowed for offset 0 only).
    """
    if offset and offset >= size_bytes:
        raise _unsatisfiable(size_bytes)
    rest = size_bytes - offset
    return Span(offset, min(length, rest) if length else rest)


def from_header(header: str, size_bytes: int) -> Span | None:
    """The span a Range header asks for; None when it asks for none we serve (absent, several, not bytes, malformed).

    Raises RangeNotSatisfiable when no byte of it exists. Source: RFC 9110 sections 14.1.2 and 14.2.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size_bytes)
        if not length:
            raise _unsatisfiable(size_bytes)
        return Span(size_bytes - length, length, ranged=True)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise _unsatisfiable(size_bytes)
    end = min(int(last) + 1, size_bytes) if last else size_bytes
    return Span(start, end - start, ranged=True)


def _unsatisfiable(size_bytes: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(
        f"The file has {size_bytes} bytes; none of those asked for exists.", size_bytes=size_bytes
    )
