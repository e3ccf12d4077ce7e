"""The real edge with strangers behind it: an upstream that repeats what arrived, and a check that answers as told.

The configuration is the one that ships (deploy.envoy.config); only addresses differ. What reaches the upstream is
what a service would have seen, header by header and trailer by trailer.
"""

import json
import queue
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from deploy.envoy.config import Edge, certificate_document, render
from deploy.stack import pki
from libs.rpc.validate import IMAGE
from tests.support.seaweed import free_ports
from tests.support.tools import tool

Headers = list[tuple[str, str]]
START_SECONDS = 30.0
UNARY = "/holdfast.files.v1.FileService/GetFile"
PUBLIC = "/holdfast.auth.v1.AuthService/SignIn"


@dataclass
class Answers:
    """What the check says, and what it was asked. token: the x-user-token it gives; "" gives none. status: its verdict.

    close: whether it ends each connection after its answer.
    """

    token: str = "minted-by-auth"
    status: int = 200
    close: bool = False
    asked: list[tuple[str, str, Headers]] = field(default_factory=list)


class Quiet(BaseHTTPRequestHandler):
    """HTTP/1.1 on a Unix socket, with no log."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A Unix socket has no peer address."""
        return "unix"

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer and keep the connection."""
        self.send_response(status)
        for name, value in [*headers, ("content-length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class UnixServer(ThreadingUnixStreamServer):
    """Threads that end with the test."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is no news."""


def check_server(path: Path, answers: Answers) -> UnixServer:
    """The stand-in for auth's check."""

    class Check(Quiet):
        def answer(self) -> None:
            answers.asked.append((self.command, self.path, [(k.lower(), v) for k, v in self.headers.items()]))
            token = [("x-user-token", answers.token)] if answers.token else []
            self.close_connection = answers.close
            self.reply(answers.status, [*token, *([("connection", "close")] if answers.close else [])], b"")

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = answer

    return UnixServer(str(path), Check)


Feed = queue.Queue[bytes | None]
"""What an event stream is to say next; None ends it."""


def http_echo(path: Path, feed: Feed) -> UnixServer:
    """An HTTP/1 upstream that answers with the headers it got, and an event stream with what is put into *feed*."""

    class Echo(Quiet):
        def answer(self) -> None:
            if self.headers.get("accept") == "text/event-stream":
                self.stream()
                return
            length = int(self.headers.get("content-length", "0"))
            received = len(self.rfile.read(length)) if length else 0
            seen = {"headers": [(k.lower(), v) for k, v in self.headers.items()], "trailers": [], "received": received}
            self.reply(200, [("content-type", "application/json")], json.dumps(seen).encode())

        def stream(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            while (words := feed.get()) is not None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(words), words))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

    return UnixServer(str(path), Echo)


class H2Echo(threading.Thread):
    """An HTTP/2 upstream that answers each request with its headers and trailers as JSON, unless it is *silent*."""

    def __init__(self, path: Path, silent: threading.Event) -> None:
        super().__init__(daemon=True)
        self._silent = silent
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)

    def run(self) -> None:
        """Serve each connection in a thread of its own until the listener is closed."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._listener.close()

    def _serve(self, link: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8", validate_inbound_headers=False)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        seen: dict[int, dict[str, Any]] = {}
        with suppress(OSError, h2.exceptions.ProtocolError), link:
            link.sendall(connection.data_to_send())
            while data := link.recv(65536):
                for event in connection.receive_data(data):
                    self._note(connection, event, seen)
                link.sendall(connection.data_to_send())

    def _note(
        self, connection: h2.connection.H2Connection, event: h2.events.Event, seen: dict[int, dict[str, Any]]
    ) -> None:
        if isinstance(event, h2.events.RequestReceived):
            seen[event.stream_id] = {"headers": event.headers, "trailers": [], "received": 0}
        elif isinstance(event, h2.events.TrailersReceived):
            seen[event.stream_id]["trailers"] = event.headers
        elif isinstance(event, h2.events.DataReceived):
            seen[event.stream_id]["received"] += len(event.data)
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and not self._silent.is_set():
            body = json.dumps(seen.pop(event.stream_id)).encode()
            connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json")])
            connection.send_data(event.stream_id, body, end_stream=True)


@dataclass
class Answer:
    """What came back. closed: the connection or the stream was ended without an answer."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    closed: bool = False

    @property
    def seen(self) -> dict[str, Any]:
        """What the upstream saw."""
        return dict(json.loads(self.body))

    def header(self, name: str) -> list[str]:
        """The values of one header."""
        return [value for key, value in self.headers if key.lower() == name]


class BareEdge:
    """A running Envoy with an echo behind every route."""

    def __init__(self, directory: Path, **changed: Any) -> None:
        self.answers, self.feed = Answers(), Feed()
        self.silent = threading.Event()
        self.directory = directory
        self.port, self.redirect_port, self.metrics_port = free_ports(3)
        now = datetime.now(UTC)
        authority = pki.authority(directory / "pki", now)
        self.ca_file = authority.certificate
        leaf = pki.leaf(directory / "pki" / "edge", authority, now)
        document = directory / "pki" / "edge" / "sds.json"
        document.write_text(certificate_document(leaf.certificate, leaf.key), encoding="utf-8")
        self.admin_socket = directory / "admin.sock"
        values: dict[str, Any] = {
            "host": "127.0.0.1", "edge_port": self.port, "redirect_port": self.redirect_port,
            "metrics_host": "127.0.0.1", "metrics_port": self.metrics_port, "admin_socket": str(self.admin_socket),
            "certificate_file": document, "upstreams": self._upstreams(), "allowed_origins": (self.url,),
            "contract_image": IMAGE, "anonymous_per_minute": 100_000, "address_per_minute": 100_000,
            "max_upload_bytes": 1_000_000,
        }  # fmt: skip
        (directory / "envoy.yaml").write_text(render(Edge(**values | changed)), encoding="utf-8")

    @property
    def url(self) -> str:
        """https://127.0.0.1:PORT."""
        return f"https://127.0.0.1:{self.port}"

    def _upstreams(self) -> dict[str, str]:
        grpc = {f"{name}_grpc": f"unix:{self.directory / 'h2.sock'}" for name in ("auth", "files", "events", "backup")}
        http = {f"{name}_http": f"unix:{self.directory / 'h1.sock'}" for name in ("files", "events")}
        return {**grpc, **http, "auth_check": f"unix:{self.directory / 'check.sock'}"}

    @contextmanager
    def running(self) -> Iterator["BareEdge"]:
        """Envoy and what stands behind it, until the block ends."""
        servers = [
            check_server(self.directory / "check.sock", self.answers),
            http_echo(self.directory / "h1.sock", self.feed),
        ]
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        echo = H2Echo(self.directory / "h2.sock", self.silent)
        echo.start()
        command = [
            tool("envoy"),
            "-c",
            str(self.directory / "envoy.yaml"),
            "--service-node",
            "edge",
            "--service-cluster",
            "t",
        ]
        command += ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        log = self.directory / "envoy.log"
        with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as envoy:
            try:
                self._wait(envoy, log)
                yield self
            finally:
                envoy.terminate()
                envoy.wait(20)
                for server in servers:
                    server.shutdown()
                    server.server_close()
                echo.close()

    def _wait(self, envoy: "subprocess.Popen[bytes]", log: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError), self.plain(self.metrics_port) as link:
                link.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                if b"200 OK" in received(link):
                    return
            assert envoy.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the edge did not start:\n{log.read_text()}"

    def plain(self, port: int) -> socket.socket:
        """A TCP connection to one of its ports."""
        return socket.create_connection(("127.0.0.1", port), timeout=10)

    def tls(self, *protocols: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A verified TLS connection to the edge that offers *protocols*."""
        trust = context or ssl.create_default_context(cafile=str(self.ca_file))
        if protocols:
            trust.set_alpn_protocols(list(protocols))
        return trust.wrap_socket(self.plain(self.port), server_hostname="127.0.0.1")

    def http(self, method: str, path: str, headers: Headers = (), body: bytes | None = None) -> Answer:  # type: ignore[assignment]
        """One HTTP/1.1 exchange through the standard library."""
        trust = ssl.create_default_context(cafile=str(self.ca_file))
        connection = HTTPSConnection("127.0.0.1", self.port, context=trust, timeout=20)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            sized = [("content-length", str(len(body)))] if body is not None else []
            for name, value in [*headers, *sized]:
                connection.putheader(name, value)
            connection.endheaders(body)
            reply: HTTPResponse = connection.getresponse()
            return Answer(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()

    def raw(self, request: bytes) -> Answer:
        """One HTTP/1.1 exchange of exactly these bytes, which have to ask for the connection's end."""
        with self.tls("http/1.1") as link:
            link.sendall(request)
            words = received(link)
        if not words:
            return Answer(closed=True)
        head, _, body = words.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        if ("transfer-encoding", "chunked") in pairs:
            body = unchunked(body)
        return Answer(int(lines[0].split()[1]), pairs, body)

    def h2(
        self, path: str, headers: Sequence[tuple[str, str]] = (), trailers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """One HTTP/2 POST with an empty gRPC message, these extra headers, and these trailers."""
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        config.normalize_outbound_headers = False
        connection = h2.connection.H2Connection(config)
        with self.tls("h2") as link:
            connection.initiate_connection()
            first = [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", f"127.0.0.1:{self.port}"),
                (":path", path),
            ]
            connection.send_headers(1, [*first, ("content-type", "application/grpc"), *headers])
            connection.send_data(1, b"\0\0\0\0\0", end_stream=not trailers)
            if trailers:
                connection.send_headers(1, list(trailers), end_stream=True)
            link.sendall(connection.data_to_send())
            return answered(link, connection)


def answered(link: ssl.SSLSocket, connection: h2.connection.H2Connection) -> Answer:
    """Read stream 1 to its end."""
    answer = Answer()
    while data := link.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                answer.headers = [(str(key), str(value)) for key, value in event.headers]
                answer.status = int(dict(answer.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                answer.closed = True
                return answer
            elif isinstance(event, h2.events.StreamEnded):
                return answer
        link.sendall(connection.data_to_send())
    answer.closed = True
    return answer


def received(link: socket.socket) -> bytes:
    """Everything until the peer closes."""
    words = b""
    with suppress(ConnectionError, ssl.SSLError):
        while data := link.recv(65536):
            words += data
    return words


def unchunked(body: bytes) -> bytes:
    """A chunked body put together."""
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole
