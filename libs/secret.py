"""Secrets: values that come from mounted files, never print, and are refused when anybody could know or guess them.

A file holds one value; one trailing newline is not part of it. In production a file that its group or the world can
read is refused, as is anything shorter than its declared size, a value out of an example, and a value with too little
variety to have been drawn at random. Nothing in this module ever puts a value, or part of one, into a message.
"""

import hmac
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

MAX_BYTES = 64 * 1024

# Values people paste from manuals; compared without case, also when one is repeated to fill the length.
# fmt: off
_EXAMPLES = frozenset(
    {
        "secret", "supersecret", "mysecret", "secretkey", "secret_key", "topsecret", "password", "passw0rd", "pass",
        "changeme", "change-me", "change_me", "changethis", "replaceme", "replace-me", "example", "examplekey",
        "default", "demo", "test", "testing", "dummy", "placeholder", "insecure", "todo", "admin", "administrator",
        "root", "postgres", "holdfast", "minio", "minioadmin", "minio123", "letmein", "qwerty", "foobar", "foo",
        "bar", "abc", "abcdef", "abcdefghijklmnopqrstuvwxyz", "0123456789", "1234567890", "123456789", "12345678",
        "1234", "0123456789abcdef", "deadbeef", "cafebabe", "your-secret-key", "your_secret_key",
        "your-256-bit-secret", "your-secret-key-here", "keyboardcat", "keyboard-cat", "thisisasecret",
        "this-is-a-secret", "notsecret", "not-a-secret", "development", "production",
    }
)
# fmt: on
# Demo keys that were published whole: RFC 7515 A.1, jwt.io, AWS's documentation, Supabase's self-hosting example.
_PUBLISHED = frozenset(
    (
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "a-string-secret-at-least-256-bits-long",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AKIAIOSFODNN7EXAMPLE",
        "your-super-secret-jwt-token-with-at-least-32-characters-long",
        "your-super-secret-and-long-postgres-password",
    )
)
_EXAMPLE_WORDS = ("changeme", "change-me", "change_me", "example", "your-super-secret", "your-secret", "placeholder")
_VARIETY_FROM_BYTES = 16  # below it a short random value may honestly repeat itself
_VARIETY = 8


class SecretFault(ValueError):
    """A secret is missing or unfit; the message names the fault and never the value."""


class Secret:
    """A value that only `reveal()` and `text()` show: str, repr, format, pickling and JSON do not."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value, for the one call that needs it."""
        return self._value

    def text(self) -> str:
        """The value as UTF-8 text, for the one call that needs it."""
        return self._value.decode()

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("A secret is not pickled.")


def weakness(value: bytes, min_bytes: int = 32) -> str:
    """Why *value* is unfit as a secret of at least *min_bytes* bytes, as the end of a sentence; "" when it is fit."""
    if len(value) < min_bytes:
        return f"is shorter than {min_bytes} bytes"
    words = value.decode("utf-8", "replace").strip()
    if words in _PUBLISHED or words.lower() in _EXAMPLES or _period(words.lower()) in _EXAMPLES:
        return "is a published example value"
    if any(word in words.lower() for word in _EXAMPLE_WORDS):
        return "is a published example value"
    if len(value) >= _VARIETY_FROM_BYTES and len(set(value)) < _VARIETY:
        return "has too little variety to be random"
    if len(value) > 1 and len(_period(words)) * 2 <= len(words):
        return "repeats itself"
    return ""


def _period(text: str) -> str:
    """The shortest prefix whose repetition is *text*; *text* itself when it repeats nothing."""
    at = (text + text).find(text, 1) if text else 0
    return text[:at]


def read(path: str, min_bytes: int = 32, *, private: bool = True) -> Secret:
    """The secret in the file at *path*. Raises SecretFault when it is missing, unreadable or unfit.

    private: refuse a file whose group or the world may read it (production).
    """
    value, _ = _load(path, private=private)
    fault = weakness(value, min_bytes)
    if fault:
        raise SecretFault(fault)
    return Secret(value)


def equal(named: Iterable[tuple[str, Secret]]) -> list[tuple[str, str]]:
    """The pairs of names that carry one and the same value, in order of appearance."""
    first: dict[Secret, str] = {}
    pairs: list[tuple[str, str]] = []
    for name, value in named:
        if not value:
            continue
        if value in first:
            pairs.append((first[value], name))
        else:
            first[value] = name
    return pairs


_Stamp = tuple[int, int, int, int]


def _load(path: str, *, private: bool) -> tuple[bytes, _Stamp]:
    try:
        # O_NONBLOCK: a FIFO in the place of the file must not hang the start.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SecretFault("is missing") from None
    except OSError as error:
        raise SecretFault(f"cannot be read ({error.strerror})") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise SecretFault("is not a regular file")
    with os.fdopen(handle, "rb") as file:
        if private and status.st_mode & 0o077:
            raise SecretFault(f"is open to group or world (mode {stat.S_IMODE(status.st_mode):04o})")
        if status.st_size > MAX_BYTES:
            raise SecretFault(f"is larger than {MAX_BYTES} bytes")
        value = file.read(MAX_BYTES + 1)
    return value.removesuffix(b"\n").removesuffix(b"\r"), _stamp(status)


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


T = TypeVar("T")


class Watched(Generic[T]):
    """A secret file, parsed, and read again when the file is another one (mount swap, rename) or has been written.

    The first reading raises SecretFault; a later one that fails keeps the last good value, is logged once for each
    change of the file, and is tried again at the next. Looking costs one stat(2), so callers may look at every use.
    """

    def __init__(self, path: str, parse: Callable[[bytes], T], *, min_bytes: int = 32, private: bool = True) -> None:
        self._path, self._parse, self._min_bytes, self._private = path, parse, min_bytes, private
        self._lock = threading.Lock()
        self._seen: _Stamp | None
        self._value, self._seen = self._read()
        self.generation = 1
        """How many good values have been read; a metric may show it, never the value or its hash."""

    def get(self) -> T:
        """The newest good value."""
        try:
            seen: _Stamp | None = _stamp(os.stat(self._path))
        except OSError:
            seen = None  # gone: said once, the value stays
        if seen != self._seen:
            with self._lock:
                if seen != self._seen:
                    self._again(seen)
        return self._value

    __call__ = get

    def _again(self, seen: _Stamp | None) -> None:
        try:
            self._value, self._seen = self._read()
        except SecretFault as fault:
            self._seen = seen
            self._say(logging.ERROR, "secret_kept", fault=str(fault))
            return
        self.generation += 1
        self._say(logging.INFO, "secret_reloaded", generation=self.generation)

    def _say(self, level: int, event: str, **fields: object) -> None:
        told = {"file": os.path.basename(self._path), **fields}
        logging.getLogger(__name__).log(level, event, extra={"fields": told})

    def _read(self) -> tuple[T, _Stamp]:
        value, seen = _load(self._path, private=self._private)
        fault = weakness(value, self._min_bytes)
        if fault:
            raise SecretFault(fault)
        try:
            return self._parse(value), seen
        except ValueError as error:
            # The class only: a parser's text may quote what it could not parse.
            raise SecretFault(f"cannot be parsed ({type(error).__name__})") from None
