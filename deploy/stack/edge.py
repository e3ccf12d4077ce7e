"""The edge as a browser sees it: gRPC-web framing, PUT and GET of files, and server-sent events, over verified TLS.

Used by the tour, so that the stack is proved by the very path a browser takes.
Source: gRPC-web protocol (PROTOCOL-WEB), RFC 9110, WHATWG HTML section 9.2.
"""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse, HTTPSConnection
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

GRPC_WEB = "application/grpc-web+proto"
TRAILER_FLAG = 0x80


class Message(Protocol):
    """What the framing needs of a protobuf message."""

    def SerializeToString(self) -> bytes:
        """The message's wire form."""

    @classmethod
    def FromString(cls, data: bytes) -> "Message":
        """The message of a wire form."""


Answer = TypeVar("Answer", bound=Message)


class Refused(Exception):
    """The edge or a service said no. code: gRPC status number, or HTTP status for PUT, GET and SSE."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass
class Edge:
    """One client of the edge. url: https://host:port; ca_file: PEM; token: bearer access token, "" before sign-in."""

    url: str
    ca_file: str
    token: str = ""
    timeout_seconds: float = 30.0

    def _connect(self) -> HTTPSConnection:
        where = urlsplit(self.url)
        trust = ssl.create_default_context(cafile=self.ca_file)
        return HTTPSConnection(where.hostname or "", where.port, context=trust, timeout=self.timeout_seconds)

    def _headers(self, **more: str) -> dict[str, str]:
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return headers | ({"authorization": f"Bearer {self.token}"} if self.token else {})

    def call(self, method: str, request: Message, answer: type[Answer]) -> Answer:
        """One unary call by gRPC-web. method: `/package.Service/Method`. Raises Refused with the gRPC code."""
        wire = request.SerializeToString()
        body = struct.pack(">BI", 0, len(wire)) + wire
        connection = self._connect()
        try:
            connection.request("POST", method, body, self._headers(content_type=GRPC_WEB, x_grpc_web="1"))
            reply = connection.getresponse()
            data, trailers = split_frames(reply.read())
        finally:
            connection.close()
        status = trailers.get("grpc-status", reply.headers.get("grpc-status"))
        message = trailers.get("grpc-message", reply.headers.get("grpc-message") or "")
        if status != "0":
            raise Refused(int(status) if status else -reply.status, unquote(message) or f"HTTP {reply.status}")
        made = answer.FromString(data)
        assert isinstance(made, answer)
        return made

    def put(self, path: str, content: bytes, content_type: str) -> dict[str, object]:
        """Store *content* at *path* and return the file as JSON. Raises Refused with the HTTP status."""
        connection = self._connect()
        try:
            connection.request("PUT", f"/v1/files/{quote(path)}", content, self._headers(content_type=content_type))
            return dict(json.loads(expect(connection.getresponse(), 200, 201)))
        finally:
            connection.close()

    def get(self, path: str, *, first: int | None = None, last: int | None = None) -> bytes:
        """The bytes at *path*, whole or first to last inclusive. Raises Refused with the HTTP status."""
        ranged = {} if first is None else {"range": f"bytes={first}-{'' if last is None else last}"}
        connection = self._connect()
        try:
            connection.request("GET", f"/v1/files/{quote(path)}", headers=self._headers(**ranged))
            return expect(connection.getresponse(), 200, 206)
        finally:
            connection.close()

    def follow(self, last_event_id: str = "") -> "Follower":
        """Open the event stream and read it in a thread until closed. Raises Refused with the HTTP status."""
        connection = self._connect()
        resume = {"last_event_id": last_event_id} if last_event_id else {}
        connection.request("GET", "/v1/events", headers=self._headers(accept="text/event-stream", **resume))
        reply = connection.getresponse()
        if reply.status != 200:
            raise Refused(reply.status, reply.read(2000).decode(errors="replace"))
        return Follower(connection, reply)


def expect(reply: HTTPResponse, *wanted: int) -> bytes:
    """The reply's body. Raises Refused unless its status is one of *wanted*."""
    body = reply.read()
    if reply.status not in wanted:
        raise Refused(reply.status, body[:2000].decode(errors="replace"))
    return body


def split_frames(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The first data frame and the trailers of a gRPC-web answer; empty when it has none."""
    data, trailers, at = b"", {}, 0
    while at + 5 <= len(body):
        flag, size = struct.unpack_from(">BI", body, at)
        frame, at = body[at + 5 : at + 5 + size], at + 5 + size
        if not flag & TRAILER_FLAG:
            data = data or frame
            continue
        for line in frame.decode().split("\r\n"):
            name, _, value = line.partition(":")
            trailers[name.strip().lower()] = value.strip()
    return data, trailers


@dataclass(frozen=True, slots=True)
class Seen:
    """One server-sent event and when it came (time.monotonic)."""

    id: str
    type: str
    data: str
    at: float


@dataclass
class Follower:
    """A reader thread on one event stream."""

    connection: HTTPSConnection
    reply: HTTPResponse
    seen: list[Seen] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def __post_init__(self) -> None:
        """Start reading."""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in parse_events(iter(self.reply.readline, b"")):
                with self._changed:
                    self.seen.append(event)
                    self._changed.notify_all()
        except (OSError, ValueError, AttributeError):
            pass  # closed by us, or cut by the server: both end the stream
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def wait(self, type_: str, containing: str, seconds: float) -> Seen:
        """The first event of that type whose data contains the text. Raises TimeoutError with what did come."""
        deadline = time.monotonic() + seconds

        def found() -> Seen | None:
            return next((event for event in self.seen if event.type == type_ and containing in event.data), None)

        with self._changed:
            while (event := found()) is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    types = [event.type for event in self.seen]
                    raise TimeoutError(f"no {type_} with {containing!r} within {seconds} s; came: {types}")
                self._changed.wait(left)
        return event

    def close(self) -> None:
        """Stop reading and close the connection."""
        if (sock := self.connection.sock) is not None:
            sock.shutdown(socket.SHUT_RDWR)  # wakes the reader, which close alone does not
        self.connection.close()


def parse_events(lines: Iterator[bytes]) -> Iterator[Seen]:
    """Server-sent events from raw lines; comments and retry hints are passed over."""
    fields: dict[str, list[str]] = {}
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if fields.get("data"):
            last = {name: values[-1] for name, values in fields.items()}
            yield Seen(last.get("id", ""), last.get("event", "message"), "\n".join(fields["data"]), time.monotonic())
        fields = {}
