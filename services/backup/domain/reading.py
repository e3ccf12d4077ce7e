"""Values that are kept as JSON, and read again strictly: what does not fit its field is refused.

Whoever keeps documents puts aside what is refused here. So nothing may come through that would end the service later:
a moment without offset, a number that fits no message, text for a number.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from services.backup.domain.progress import stamp

T = TypeVar("T")

_BIGINT, _INT = 1 << 63, 1 << 31
_NAME = re.compile(r"[0-9A-Za-z_-]{1,60}")
# Room on both sides for what is added to a moment and taken from it.
_YEARS = range(1970, 9999)


class Document:
    """A dataclass that is kept as JSON."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON; moments as ISO 8601."""
        document: dict[str, Any] = stamp(asdict(cast(Any, self)))
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The value that to_json wrote, also in an older release. Raises TypeError or ValueError for anything else."""
        return read(cls, document)


def read(kind: type[T], document: object) -> T:
    """The dataclass *kind* of *document*, by the types of its fields; of Annotated ones, by the reader named there.

    A field that is missing has its default: older releases did not know it. Raises TypeError and ValueError, with the
    name of the field.
    """
    hints, needed, given = get_type_hints(kind, include_extras=True), _needed(kind), _object(document)
    for field in sorted(given.keys() ^ hints.keys()):
        if field not in hints:
            raise ValueError(f"{field}: no such field")
        if field in needed:
            raise ValueError(f"{field}: is missing")
    return kind(**{field: _read_field(field, hints[field], value) for field, value in given.items()})


def moment(value: object) -> datetime:
    """What stamp() made of a moment, in UTC. Raises TypeError, ValueError also for one without an offset."""
    at = datetime.fromisoformat(text(value))
    if at.tzinfo is None or at.year not in _YEARS:
        raise ValueError("not a moment with an offset, of the years 1970 to 9998")
    return at.astimezone(UTC)


def whole(value: object) -> int:
    """*value* when it is a whole number, not negative, that fits a bigint. Raises TypeError, ValueError."""
    return _below(_BIGINT, value)


def small(value: object) -> int:
    """As whole, for what fits an int."""
    return _below(_INT, value)


def number(value: object) -> float:
    """*value* when it is a number, finite and below a bigint on both sides. Raises TypeError, ValueError."""
    if type(value) not in (int, float):
        raise TypeError("not a number")
    found = cast(float, value)
    if not -_BIGINT < found < _BIGINT:
        raise ValueError("out of range")
    return float(found)


def text(value: object) -> str:
    """*value* when it is text that can be sent. Raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError("not text")
    value.encode()
    return value


def truth(value: object) -> bool:
    """*value* when it is true or false. Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def name(value: object) -> str:
    """*value* when it can be the last part of a resource's name, and so of a path. Raises TypeError, ValueError."""
    if not _NAME.fullmatch(text(value)):
        raise ValueError("not a name")
    return text(value)


Small = Annotated[int, small]
Name = Annotated[str, name]
_READERS: Mapping[Any, Callable[[object], Any]] = {
    str: text,
    int: whole,
    float: number,
    bool: truth,
    datetime: moment,
}


def _below(limit: int, value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    if not 0 <= value < limit:
        raise ValueError("out of range")
    return value


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("not an object")
    return value


def _list(value: object) -> Iterable[object]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _needed(kind: type[Any]) -> set[str]:
    """The fields without a default: both of theirs are the sign for none."""
    return {one.name for one in fields(kind) if one.default is one.default_factory}


def _read_field(field: str, hint: Any, value: object) -> Any:
    try:
        return _value(hint, value)
    except (TypeError, ValueError) as fault:
        raise ValueError(f"{field}: {fault}") from fault


def _value(hint: Any, value: object) -> Any:
    """*value* as *hint* says: a reader, an optional, a tuple, a mapping from text, a dataclass or an Enum."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return hint.__metadata__[0](value)
    if origin in (Union, UnionType):
        (some,) = (part for part in parts if part is not NoneType)
        return None if value is None else _value(some, value)
    if origin is tuple:
        return tuple(_value(parts[0], one) for one in _list(value))
    if origin is Mapping:
        return {text(key): _value(parts[1], one) for key, one in _object(value).items()}
    if is_dataclass(hint):
        return read(cast(type[Any], hint), value)
    return hint(value) if issubclass(hint, Enum) else _READERS[hint](value)
