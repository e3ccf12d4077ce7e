"""Requests, responses and the bounds a connection keeps."""

import http
from collections.abc import Iterable
from dataclasses import dataclass

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take; times in seconds.

    idle_seconds is longer than the edge keeps an idle connection (an hour, unless told), or the edge meets closed ones.
    """

    head_bytes: int = 16 * 1024
    header_count: int = 64
    body_bytes: int = 64 * 1024
    pipelined: int = 16
    connections: int = 20_000
    read_seconds: float = 10.0
    """From a request's first byte, or the connection's opening, to its last."""
    handle_seconds: float = 30.0
    write_seconds: float = 20.0
    """How long a reader may leave our buffer full."""
    idle_seconds: float = 3900.0


class Request:
    """One request, whole: method, target as sent, headers as (lower-case name, value) in order, body."""

    __slots__ = ("_headers", "body", "keep_alive", "method", "peer", "target")

    def __init__(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        *,
        keep_alive: bool = True,
        peer: str = "",
    ) -> None:
        self.method, self.target, self.body, self.keep_alive = method, target, body, keep_alive
        self.peer = peer
        """Address of the other end, "" on a Unix socket."""
        self._headers = tuple(headers)

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the first "?", still percent-encoded."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str:
        """The one value of *name* (lower case), "" when absent. Repeated: joined by ", " (RFC 9110 section 5.3)."""
        return ", ".join(self.values(name))

    def values(self, name: str) -> list[str]:
        """Every value of *name* (lower case), in order."""
        wanted = name.encode("latin-1")
        return [value.decode("latin-1") for key, value in self._headers if key == wanted]

    @property
    def headers(self) -> list[Header]:
        """All headers in order, names in lower case."""
        return [(key.decode("latin-1"), value.decode("latin-1")) for key, value in self._headers]


class Response:
    """A whole answer. headers: without content-length, connection, transfer-encoding, which the server writes.

    Raises ValueError for a name or value that HTTP/1.1 cannot carry (line ends, characters beyond Latin-1).
    """

    __slots__ = ("_block", "body", "status")

    def __init__(self, status: int = 200, headers: Iterable[Header] = (), body: bytes = b"") -> None:
        self.status, self.body = status, body
        self._block = head_block(status, headers)

    def wire(self, method: str = "GET", *, keep_alive: bool = True) -> bytes:
        """The bytes that answer a request made with *method*."""
        close = b"" if keep_alive else b"connection: close\r\n"
        if self.status in (204, 304):
            return b"%b%b\r\n" % (self._block, close)
        body = b"" if method == "HEAD" else self.body
        return b"%bcontent-length: %d\r\n%b\r\n%b" % (self._block, len(self.body), close, body)


_STATUS_LINES = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n" for status in http.HTTPStatus}
_OURS = frozenset({"content-length", "connection", "transfer-encoding", "keep-alive", "upgrade"})
_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def head_block(status: int, headers: Iterable[Header]) -> bytes:
    """The status line and header lines, without the empty line that ends them."""
    lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"]
    for name, value in headers:
        if not _NAME.issuperset(name) or not name or name.lower() in _OURS:
            raise ValueError(f"not a header a handler may set: {name!r}")
        if "\r" in value or "\n" in value or "\0" in value:
            raise ValueError(f"the value of {name} has a line end")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")
