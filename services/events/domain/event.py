"""An event as stored, and what a published payload has to be."""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from libs.errors import Violation
from services.events.domain.errors import EventInvalid

MAX_DATA_BYTES = 64 * 1024
MAX_DEPTH = 64
_MAX_EXPONENT = 308
# What a stream itself tells, and what an EventSource dispatches by itself: a reader could not tell them from an event.
_RESERVED_TYPES = frozenset({"reset", "goodbye", "refused", "open", "error"})


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a user's stream. offset: from 1, dense. data: JSON text of an object, one line."""

    organization_id: str
    user_id: str
    offset: int
    type: str
    data: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Frame:
    """An event ready to be written to any number of readers; sse: its server-sent-event bytes, made once."""

    epoch: str
    event: Event
    sse: bytes


def check_type(type: str) -> None:
    """Refuse a type that a reader would take for the stream's own words. Raises EventInvalid."""
    if type in _RESERVED_TYPES:
        raise _invalid("is a word of the stream itself", field="event.type")


def check_data(data: str) -> None:
    """Refuse what Postgres could not keep as it is, or a reader not parse. Raises EventInvalid.

    Refused: not an object, more than 64 KiB of UTF-8, nested deeper than 64, NUL or lone surrogates, numbers beyond the
    range of a double.
    """
    if len(data.encode(errors="surrogatepass")) > MAX_DATA_BYTES:
        raise _invalid(f"is longer than {MAX_DATA_BYTES} bytes")
    try:
        parsed = json.loads(data, parse_constant=_no_number, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise _invalid("is not JSON") from error
    if not isinstance(parsed, dict):
        raise _invalid("is not a JSON object")
    _check(parsed, depth=1)


def _check(value: object, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _invalid(f"is nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise _invalid("holds a NUL or half a character")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check(key, depth=depth)
            _check(member, depth=depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth=depth + 1)


def _number(literal: str) -> Decimal:
    # Postgres writes a number out in full: an exponent is how a short text becomes a long one.
    number = Decimal(literal)
    if number and abs(number.adjusted()) > _MAX_EXPONENT:
        return _no_number(literal)
    return number


def _no_number(literal: str) -> Decimal:
    raise _invalid("holds a number out of range")


def _invalid(what: str, field: str = "event.data") -> EventInvalid:
    return EventInvalid(f"{field} {what}.", violations=[Violation(field, what)], field=field)
