"""What a job is, what its handler is given, and what it may answer."""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from libs.principal import Principal

MAX_ATTEMPTS = 20
TIMEOUT_SECONDS = 300.0
MAX_PAYLOAD_BYTES = 64 * 1024
LONGEST_TIMEOUT_SECONDS = 7 * 86400.0
DEFAULT_QUEUE = "default"
QUEUE_NAME = "[a-z][a-z0-9_-]{0,39}"
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
PLAIN = (str, int, float, bool, type(None))
UNREADABLE = (ValueError, RecursionError)
"""What json.loads raises for what Postgres took: numbers of too many digits, arrays nested too deep."""
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters of Python's that Postgres cannot store: zero, and halves of others."""


class JobInvalid(ValueError):
    """The job cannot be put, or a stored one cannot be read; a mistake of the program, not of its user."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One claim of one job. (job_id, lease) is unique for ever: a fencing and idempotency token for what the handler
    writes.

    attempt counts from 1 and grows with each failure; crashes of workers and snoozes do not count.
    progress: what an earlier attempt last saved with `progress`, None when nothing.
    """

    job_id: str
    lease: int
    attempt: int
    principal: Principal
    progress: Any = None


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


def checked(answer: object) -> None:
    """Raise JobInvalid for an answer of a handler that says what cannot be written, as careless code gives one: a class
    in place of its value, a time that is none.
    """
    if isinstance(answer, type):
        raise JobInvalid(f"The handler answered the class {answer.__name__}, not a value of it.")
    when = answer.at if isinstance(answer, Retry | Snooze) else None
    if (isinstance(answer, Snooze) or when is not None) and not isinstance(when, datetime):
        raise JobInvalid(f"{type(answer).__name__}.at has to be a datetime.")


Outcome = Done | Completed | Retry | Snooze | Discard | Cancelled
JobT = TypeVar("JobT")
Handler = Callable[[JobT, Lease], Awaitable[Outcome | None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a job type's class says, read once: its stored name, its queue and limits, whether its transitions are
    audited, and the fields of a payload.
    """

    name: str
    queue: str
    max_attempts: int
    timeout_seconds: float
    audited: bool
    fields: frozenset[str]
    needed: frozenset[str]
    accepts: Mapping[str, tuple[type[Any], ...]]


_KINDS: dict[type[Any], Kind] = {}


def type_name(job_type: type[Any]) -> str:
    """`ExpireUpload` → `expire_upload`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", job_type.__name__).lower()


def kind(job_type: type[Any]) -> Kind:
    """What *job_type* declares. Raises JobInvalid for what is no dataclass, or declares nonsense."""
    known = _KINDS.get(job_type)
    if known is None:
        known = _KINDS[job_type] = _read(job_type)
    return known


def by_name(handlers: Mapping[type[Any], Handler[Any]]) -> dict[str, tuple[type[Any], Handler[Any]]]:
    """Each type with its handler, by the type's stored name. Raises JobInvalid when two have the same."""
    found = {kind(job).name: (job, handler) for job, handler in handlers.items()}
    if len(found) < len(handlers):
        raise JobInvalid("Two job types of one worker have the same name.")
    return found


def _read(job_type: type[Any]) -> Kind:
    if not dataclasses.is_dataclass(job_type):
        raise JobInvalid("A job has to be an instance of a dataclass.")
    found = dataclasses.fields(job_type)
    hints = typing.get_type_hints(job_type)
    made = Kind(
        name=type_name(job_type),
        queue=str(getattr(job_type, "queue", DEFAULT_QUEUE)),
        max_attempts=int(getattr(job_type, "max_attempts", MAX_ATTEMPTS)),
        timeout_seconds=float(getattr(job_type, "timeout_seconds", TIMEOUT_SECONDS)),
        audited=bool(getattr(job_type, "audited", False)),
        fields=frozenset(field.name for field in found),
        needed=frozenset(field.name for field in found if _has_no_default(field)),
        accepts={field.name: _accepted(hints[field.name]) for field in found},
    )
    if not re.fullmatch(QUEUE_NAME, made.queue):
        raise JobInvalid(f"{job_type.__name__}.queue has to match {QUEUE_NAME}.")
    if not all(field.init for field in found):
        raise JobInvalid(f"{job_type.__name__} has a field that cannot be given: its jobs could never be read.")
    if made.max_attempts < 1 or not 0 < made.timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise JobInvalid(f"{job_type.__name__} needs at least one attempt and up to {LONGEST_TIMEOUT_SECONDS:g} s.")
    for name, kinds in made.accepts.items():
        if not set(kinds) <= set(PLAIN):
            # It could be put, and never read again.
            raise JobInvalid(f"{job_type.__name__}.{name} has to be declared as str, int, float, bool or None.")
    return made


def encode(job: Any) -> str:
    """The job's fields as JSON. Raises JobInvalid for what is no dataclass, not as declared, or too large."""
    if isinstance(job, type):
        raise JobInvalid("A job has to be an instance of a dataclass.")
    values = {}
    for name, kinds in kind(type(job)).accepts.items():
        values[name] = value = getattr(job, name)
        if type(value) not in kinds and not _reads_as(value, kinds):
            raise JobInvalid(f"{type(job).__name__}.{name} has to be {_words(kinds)}, as declared.")
        if isinstance(value, str) and "\0" in value:
            raise JobInvalid(f"{type(job).__name__}.{name} holds a zero character, which Postgres cannot store.")
    try:
        payload = _JSON.encode(values)
        size = len(payload.encode())
    except ValueError as error:
        raise JobInvalid(f"{type(job).__name__} holds a number or a character that cannot be stored.") from error
    if size > MAX_PAYLOAD_BYTES:
        raise JobInvalid(f"A job holds at most {MAX_PAYLOAD_BYTES} bytes; store the content and put its id.")
    return payload


def decode(job_type: type[JobT], text: str) -> JobT:
    """The job of *text*, a JSON object. Raises JobInvalid when it cannot be read, or fields are missing, strange or of
    another type.
    """
    declared = kind(job_type)
    try:
        payload = json.loads(text)
    except UNREADABLE as error:
        raise JobInvalid("The payload cannot be read.") from error
    if not isinstance(payload, dict):
        raise JobInvalid("The payload is no object.")
    if not declared.needed <= payload.keys() <= declared.fields:
        raise JobInvalid(f"The payload has not the fields of {job_type.__name__}.")
    for name, value in payload.items():
        # The exact type, for True is an int to isinstance().
        if type(value) not in declared.accepts[name]:
            raise JobInvalid(f"{job_type.__name__}.{name} is of another type in the payload.")
    return job_type(**payload)


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _reads_as(value: object, kinds: tuple[type[Any], ...]) -> bool:
    # A member of a StrEnum is stored as its text; True would be stored as true, which is no number.
    return isinstance(value, kinds) and not isinstance(value, bool)


def _words(kinds: tuple[type[Any], ...]) -> str:
    return " or ".join(dict.fromkeys("None" if one is type(None) else one.__name__ for one in kinds))


def _accepted(hint: Any) -> tuple[type[Any], ...]:
    united = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if united else (hint,)
    return (*kinds, int) if float in kinds else kinds
