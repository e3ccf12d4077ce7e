"""What may leave the process in a log line or a span attribute.

Allow-list first: numbers, truth values and the names in SAFE pass by name; a name that speaks of a credential loses its
value; every other text is searched for credentials and e-mail addresses. Exceptions are told by class and place only,
since their texts quote rows, addresses and headers. Source: requirement A4.
"""

import enum
import hashlib
import math
import re
import traceback
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from types import TracebackType
from typing import Any

REDACTED = "[redacted]"
MAX_TEXT = 2000
MAX_ITEMS = 50
MAX_DEPTH = 4

# Names that sound like credentials and are not.
SAFE = frozenset({"kid", "key_id", "token_kind", "secret_name", "token_count", "key_count", "object_key"})
_CREDENTIAL = re.compile(
    r"(?:^|[_\-.])(?:pass(?:word|wd|phrase)?|pwd|tokens?|jwt|csrf|xsrf|cookies?|set-cookie|authorization|auth_header|bearer"
    r"|secrets?|credentials?|keys?|apikey|dsn|conninfo|database_url|private|signature|otp|body|payload)(?:$|[_\-.])",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"(?:^|[_\-.])(?:tokens?|jwt|bearer)$", re.IGNORECASE)
_SHOWABLE_TOKEN = 24  # of a shorter one, eight characters would be a good part

# Every repetition is possessive or bounded: a stranger may choose the text, and must not choose how long this takes.
_EMAIL = re.compile(r"(?<![\w.%+\-])([\w.%+\-]{1,3}+)[\w.%+\-]*+@((?:[A-Za-z0-9\-]{1,63}+\.)+[A-Za-z]{2,24})")
_JWT = re.compile(r"eyJ[A-Za-z0-9_\-]{5,}+\.[A-Za-z0-9_\-]{2,}+(?:\.[A-Za-z0-9_\-]*+)?")
_BEARER = re.compile(r"\b(bearer|basic)\s{1,4}[A-Za-z0-9+/=_\-.~]{6,}+", re.IGNORECASE)
_URL_LOGIN = re.compile(r"\b([a-z][a-z0-9+.\-]{1,30}+://)[^\s\"']{0,300}@", re.IGNORECASE)
_PAIR = re.compile(
    r"((?:password|passwd|pwd|token|csrf|cookie|secret|api[_\-]?key|access[_\-]?key|signature|credential|authorization)"
    r"[\w\-]{0,32}+[\"']?\s{0,4}+[=:]\s{0,4}+)(\"[^\"]*+\"|'[^']*+'|[^\s,;&\"'\]})]++)",
    re.IGNORECASE,
)
_PEM = re.compile(r"-----BEGIN [A-Z ]{1,40}+-----.*?(?:-----END [A-Z ]{1,40}+-----|\Z)", re.DOTALL)
_COOKIE_LINE = re.compile(r"\b((?:set-)?cookie\s{0,4}+:\s{0,4}+)[^\r\n]++", re.IGNORECASE)
# Two looks decide whether any of these can match: ids, paths and codes pass the first, most sentences the next.
_PUNCTUATED = re.compile(r"[@=:\s]|eyJ|-----")
_SUSPECT = re.compile(
    r"@|eyJ|bearer|basic|-----|pass|pwd|token|csrf|cookie|secret|key|signature|credential|authoriz", re.IGNORECASE
)


def token(value: str) -> str:
    """A token as its first 8 characters and 8 hex digits of its SHA-256: enough to compare two lines, not to use."""
    digest = hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{value[:8]}#{digest}" if len(value) >= _SHOWABLE_TOKEN else f"#{digest}"


def text(value: str) -> str:
    """*value* without credentials, connection strings and whole e-mail addresses, at most MAX_TEXT characters."""
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT] + "…"
    if _PUNCTUATED.search(value) is None or _SUSPECT.search(value) is None:
        return value
    value = _PEM.sub(REDACTED, value)
    value = _COOKIE_LINE.sub(rf"\g<1>{REDACTED}", value)
    value = _URL_LOGIN.sub(rf"\g<1>{REDACTED}@", value)
    value = _BEARER.sub(rf"\g<1> {REDACTED}", value)
    value = _JWT.sub(lambda found: token(found[0]), value)
    value = _PAIR.sub(rf"\g<1>{REDACTED}", value)
    return _EMAIL.sub(r"\1***@\2", value)


@lru_cache(maxsize=1024)
def _names_credential(name: str) -> bool:
    return name not in SAFE and _CREDENTIAL.search(name) is not None


def field(name: str, value: object, depth: int = 0) -> Any:
    """*value* of the field *name* as plain JSON data that may be printed."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if value is None or (isinstance(value, bool | int | float) and not isinstance(value, enum.Enum)):
        return value
    if _names_credential(name):
        return token(value) if isinstance(value, str) and value and _TOKEN.search(name) else REDACTED
    return _plain(value, depth)


def _plain(value: object, depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return text(value)
    if isinstance(value, BaseException):
        return error_class(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, date | datetime | timedelta):
        return str(value)
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {str(k): field(str(k), v, depth + 1) for k, v in list(value.items())[:MAX_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset):
        return [field("", item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    # An unknown object's repr may hold anything.
    return f"<{type(value).__name__}>"


def error_class(error: BaseException) -> str:
    """The class of *error* with its module, plus what is harmless: errno of an OSError, the reason of an AppError."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    detail = getattr(error, "reason", None) if hasattr(error, "facts") else None
    if isinstance(error, OSError) and error.errno is not None:
        detail = f"errno {error.errno}"
    return f"{name}({detail})" if detail else name


def exception(error: BaseException) -> dict[str, Any]:
    """*error* as fields: `error` its class, `causes` those under it, `at` the places, innermost last. No text."""
    causes: list[str] = []
    under = error.__cause__ or error.__context__
    while under is not None and len(causes) < MAX_DEPTH:
        causes.append(error_class(under))
        under = under.__cause__ or under.__context__
    if isinstance(error, BaseExceptionGroup):
        causes.extend(error_class(one) for one in error.exceptions[:MAX_DEPTH])
    told: dict[str, Any] = {"error": error_class(error), "at": places(error.__traceback__)}
    if causes:
        told["causes"] = causes
    return told


def places(trace: TracebackType | None, limit: int = 12) -> list[str]:
    """The frames of *trace* as `file:line function`, the innermost *limit*, without source text."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)][-limit:]
    return [f"{_short(code.co_filename)}:{line} {code.co_name}" for code, line in frames]


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 3)[-3:])
