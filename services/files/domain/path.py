"""What a person may call a file: any language, one spelling, and no way out of where it belongs."""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from libs.errors import Violation
from services.files.domain.errors import PathInvalid

MAX_BYTES = 1024
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, lone surrogates, line and paragraph separators
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def parse(text: str, *, field: str = "path") -> str:
    """*text* as a path: NFC, 1 to 1024 bytes of UTF-8, segments divided by "/".

    Raises PathInvalid, whose fact `why` names the rule. NFC comes first, so no rule is escaped by another spelling.
    """
    path = unicodedata.normalize("NFC", text)
    fault = _fault(path)
    if fault:
        raise PathInvalid(
            f"{field} is not a path a file can have: {fault}.",
            violations=[Violation(field, fault)],
            field=field,
            why=fault,
        )
    return path


def from_target(raw: bytes, *, field: str = "path") -> str:
    """The path in *raw*, the still percent-encoded rest of a request target; decoded exactly once, then as parse.

    Raises PathInvalid also for a broken escape and for bytes that are not UTF-8. Source: RFC 3986 section 2.4.
    """
    if _BROKEN_ESCAPE.search(raw):
        raise _not_decodable(field, "has a percent sign without two hexadecimal digits")
    try:
        return parse(unquote_to_bytes(raw).decode("utf-8"), field=field)
    except UnicodeDecodeError:
        raise _not_decodable(field, "is not UTF-8") from None


def basename(path: str) -> str:
    """The last segment."""
    return path.rpartition("/")[2]


def _fault(path: str) -> str:
    if not path:
        return "it is empty"
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in path):
        return "it has a control character"
    if len(path.encode()) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    if "\\" in path:
        return "it has a backslash"
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            return "it has an empty, . or .. segment"
    return ""


def _not_decodable(field: str, why: str) -> PathInvalid:
    return PathInvalid(f"{field} {why}.", violations=[Violation(field, why)], field=field, why=why)
