"""What a job is, what its handler is given, and what it may answer."""

import dataclasses
import json
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from libs.principal import Principal

MAX_ATTEMPTS = 20
TIMEOUT_SECONDS = 300.0
MAX_PAYLOAD_BYTES = 64 * 1024
PLAIN = (str, int, float, bool, type(None))


class JobInvalid(ValueError):
    """The job cannot be put, or a stored one cannot be read; a mistake of the program, not of its user."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One claim of one job. (job_id, lease) is unique for ever: a fencing and idempotency token for what the handler
    writes.

    attempt counts from 1 and grows with each failure; crashes of workers and snoozes do not count.
    """

    job_id: str
    lease: int
    attempt: int
    principal: Principal


@dataclass(frozen=True, slots=True)
class Done:
    """The job is finished; the same as returning None."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The handler has finished the job itself, in its own transaction, with `complete`."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed; run again at *at*, or after the usual backoff when None. The last attempt goes to the dead
    letters.
    """

    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not yet: run again at *at*; no attempt is spent."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Discard:
    """Give the job up for good, because of *reason*."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What the job was for has gone."""


Outcome = Done | Completed | Retry | Snooze | Discard | Cancelled
JobT = TypeVar("JobT")
Handler = Callable[[JobT, Lease], Awaitable[Outcome | None]]


def type_name(job_type: type[Any]) -> str:
    """`ExpireUpload` → `expire_upload`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", job_type.__name__).lower()


def encode(job: Any) -> str:
    """The job's fields as JSON. Raises JobInvalid for what is no dataclass, no plain value, or too large."""
    if not dataclasses.is_dataclass(job) or isinstance(job, type):
        raise JobInvalid("A job has to be an instance of a dataclass.")
    values = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    strange = [name for name, value in values.items() if not isinstance(value, PLAIN)]
    if strange:
        raise JobInvalid(f"{type(job).__name__}.{strange[0]} has to be text, a number, a truth value or None.")
    payload = json.dumps(values, ensure_ascii=False, allow_nan=False)
    if len(payload.encode()) > MAX_PAYLOAD_BYTES:
        raise JobInvalid(f"A job holds at most {MAX_PAYLOAD_BYTES} bytes; store the content and put its id.")
    return payload


def decode(job_type: type[JobT], payload: object) -> JobT:
    """The job of *payload*, the parsed JSON object. Raises JobInvalid when fields are missing, strange or of another
    type.
    """
    if not isinstance(payload, Mapping):
        raise JobInvalid("The payload is no object.")
    fields = {field.name: field for field in dataclasses.fields(job_type)}  # type: ignore[arg-type]  # any dataclass
    needed = {name for name, field in fields.items() if _has_no_default(field)}
    if set(payload) - set(fields) or needed - set(payload):
        raise JobInvalid(f"The payload has not the fields of {job_type.__name__}.")
    hints = typing.get_type_hints(job_type)
    for name, value in payload.items():
        if not _fits(value, hints[name]):
            raise JobInvalid(f"{job_type.__name__}.{name} is of another type in the payload.")
    return job_type(**payload)


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _fits(value: object, hint: Any) -> bool:
    kinds = typing.get_args(hint) or (hint,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, tuple(kinds)) or (isinstance(value, int) and float in kinds)
