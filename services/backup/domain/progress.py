"""How far long work has come, why it failed, and both as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Self

from libs.errors import AppError, Kind


class State(Enum):
    """AIP-216."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Fault:
    """An AppError that outlives its process."""

    kind: Kind
    reason: str
    message: str
    facts: Mapping[str, str]

    @classmethod
    def of(cls, error: AppError) -> Self:
        """What *error* said."""
        return cls(error.kind, error.reason, error.message, dict(error.facts))


def stamp(value: Any) -> Any:
    """*value* with moments as ISO 8601 and enums as their values, all the way down."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: stamp(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [stamp(item) for item in value]
    return value
