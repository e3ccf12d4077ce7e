"""Which pages may call: scheme, host and port compared exactly, never by prefix. Source: RFC 6454, requirement S6."""

import re
from enum import Enum
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]", re.ASCII)


class From(Enum):
    """Where a request says it comes from."""

    ALLOWED = "allowed"
    FOREIGN = "foreign"
    UNSAID = "unsaid"


def parse(text: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of a serialized origin; None for anything else, `null` and paths included."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = parts.netloc.rsplit(":", 1)[0] if port is not None else parts.netloc
    if text != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host):
        return None
    return parts.scheme, host, port if port is not None else _DEFAULT_PORTS[parts.scheme]


def classify(origin: str, referer: str, allowed: frozenset[tuple[str, str, int]]) -> From:
    """Where a request with these headers comes from ("" when absent); Referer counts only where Origin is absent."""
    said = origin or _origin_of(referer)
    if not said:
        return From.UNSAID
    return From.ALLOWED if parse(said.lower()) in allowed else From.FOREIGN


def _origin_of(referer: str) -> str:
    try:
        parts = urlsplit(referer)
    except ValueError:
        return "null"
    return f"{parts.scheme}://{parts.netloc}" if referer else ""
