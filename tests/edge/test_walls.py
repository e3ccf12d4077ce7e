"""What the edge says to everybody: TLS, headers, CORS, paths, limits, and nothing of itself."""

import contextlib
import socket
import ssl
import struct
import warnings
from pathlib import Path

import pytest

from deploy.envoy.config import SECURITY_HEADERS
from tests.support.edge import UNARY, BareEdge, Headers, received

WEB: Headers = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")]
MESSAGE = struct.pack(">BI", 0, 0)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("GET", "/v1/events"), 200),
        (("GET", "/nowhere"), 404),
        (("GET", "/v1/files/a%2fb"), 400),
        (("GET", "/v1/files/a%5cb"), 400),
        (("GET", "/" + "a" * 20_000), 431),
    ],
    ids=["served", "no route", "escaped slash", "escaped backslash", "headers too large"],
)
@pytest.mark.control("O1", "security headers stand on every answer, errors included")
def test_security_headers_stand_on_every_answer(edge: BareEdge, request_: tuple[str, str], status: int) -> None:
    answer = edge.http(*request_)
    assert answer.status == status
    for name, value in SECURITY_HEADERS.items():
        assert answer.header(name) == [value]
    assert answer.header("content-security-policy")
    assert answer.header("server") == []


@pytest.mark.parametrize("status", [401, 403])
def test_security_headers_stand_on_a_denial(edge: BareEdge, status: int) -> None:
    edge.answers.status = status
    answer = edge.http("GET", "/v1/events")
    assert answer.status == status
    assert answer.header("strict-transport-security") == ["max-age=31536000; includeSubDomains"]


def hands(edge: BareEdge, low: ssl.TLSVersion, high: ssl.TLSVersion, ciphers: str = "") -> str:
    """The version agreed on; "" when the edge refuses."""
    context = ssl.create_default_context(cafile=str(edge.ca_file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # an old version is what is asked for
        context.minimum_version, context.maximum_version = low, high
    if ciphers:
        context.set_ciphers(ciphers)
    try:
        with edge.tls(context=context) as link:
            return str(link.version())
    except (ssl.SSLError, ConnectionError):
        return ""


@pytest.mark.control("O1", "TLS 1.2 and 1.3 with AEAD and ECDHE only")
def test_only_modern_tls_is_spoken(edge: BareEdge) -> None:
    old, two, three = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    assert hands(edge, three, three) == "TLSv1.3"
    assert hands(edge, two, two) == "TLSv1.2"
    assert hands(edge, old, old, "ALL:@SECLEVEL=0") == ""
    assert hands(edge, two, two, "AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0") == ""
    assert hands(edge, two, two, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0") == ""
    assert hands(edge, two, two, "ECDHE-ECDSA-AES128-GCM-SHA256") == "TLSv1.2"


@pytest.mark.control("O1", "plain HTTP is sent to HTTPS")
def test_plain_http_is_sent_to_https(edge: BareEdge) -> None:
    with edge.plain(edge.redirect_port) as link:
        link.sendall(b"GET /v1/events?a=b HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        words = received(link).decode()
    assert words.startswith("HTTP/1.1 308")
    assert f"location: {edge.url}/v1/events?a=b\r\n" in words
    assert "strict-transport-security" not in words
    assert edge.answers.asked == []


@pytest.mark.control("S7", "only listed origins may call, with credentials")
def test_a_foreign_origin_gets_no_cors_header(edge: BareEdge) -> None:
    asked: Headers = [("access-control-request-method", "POST"), ("access-control-request-headers", "x-grpc-web")]
    for method, path in (("OPTIONS", UNARY), ("OPTIONS", "/v1/events"), ("OPTIONS", "/v1/files/a")):
        own = edge.http(method, path, [("origin", edge.url), *asked])
        assert own.header("access-control-allow-origin") == [edge.url]
        assert own.header("access-control-allow-credentials") == ["true"]
        foreign = edge.http(method, path, [("origin", "https://evil.example"), *asked])
        assert foreign.header("access-control-allow-origin") == []
    assert edge.answers.asked == [], "a preflight reached auth"


@pytest.mark.control("S7", "the status details are exposed to scripts")
def test_a_web_call_shows_its_status_to_scripts(edge: BareEdge) -> None:
    answer = edge.http("POST", UNARY, [*WEB, ("origin", edge.url)], MESSAGE)
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == [edge.url]
    exposed = answer.header("access-control-expose-headers")[0]
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin"} <= set(exposed.split(", "))


def test_grpc_web_is_grpc_behind_the_edge(edge: BareEdge) -> None:
    edge.http("POST", UNARY, WEB, MESSAGE)
    _, _, asked = edge.answers.asked[-1]
    assert ("x-original-content-type", "application/grpc") in asked


@pytest.mark.parametrize("path", ["/v1/files/%2e%2e/events", "/v1//events", "/v1/x/../events"])
def test_a_path_is_judged_as_it_is_routed(edge: BareEdge, path: str) -> None:
    """The check and the route see one and the same normalised path."""
    assert edge.http("GET", path).status == 200
    assert edge.answers.asked[-1][1] == "/events/v1/events"


@pytest.mark.parametrize(
    "path", ["/v1/events/", "/v1/events;a=b", "/v1/eventsx", UNARY + "/", "/holdfast.files.v1.FileService/"]
)
def test_a_path_that_nobody_declared_has_no_route(edge: BareEdge, path: str) -> None:
    assert edge.http("GET", path).status == 404
    assert edge.answers.asked == []


def test_the_services_own_methods_have_no_route(edge: BareEdge) -> None:
    assert edge.h2("/holdfast.auth.v1.TokenService/ExchangeToken").header("grpc-status") == ["12"]
    assert edge.h2("/grpc.health.v1.Health/Check").header("grpc-status") == ["12"]
    assert edge.h2(UNARY).status == 200


def test_a_declared_length_above_the_ceiling_is_refused_before_the_body(edge: BareEdge) -> None:
    with edge.tls("http/1.1") as link:
        link.sendall(b"PUT /v1/files/a HTTP/1.1\r\nhost: a\r\ncontent-length: 1000001\r\nconnection: close\r\n\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 413")
    assert edge.answers.asked == []
    assert edge.http("PUT", "/v1/files/a", [], bytes(1_000_000)).seen["received"] == 1_000_000


def test_a_message_above_the_limit_is_refused(edge: BareEdge) -> None:
    assert edge.http("POST", UNARY, WEB, bytes(5_000_000)).status == 413
    assert edge.http("POST", UNARY, WEB, struct.pack(">BI", 0, 3_000_000) + bytes(3_000_000)).status == 200


def test_the_admin_socket_is_its_owners_and_the_metrics_port_shows_two_pages(edge: BareEdge) -> None:
    assert Path(edge.admin_socket).stat().st_mode & 0o777 == 0o600
    codes = {}
    for request in (
        "GET /ready",
        "GET /stats/prometheus",
        "GET /config_dump",
        "POST /quitquitquit",
        "GET /certs",
        "POST /ready",
    ):
        with edge.plain(edge.metrics_port) as link:
            link.sendall(f"{request} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            codes[request] = received(link).split()[1].decode()
    assert list(codes.values()) == ["200", "200", "404", "404", "404", "404"]
    for path in ("/stats/prometheus", "/ready", "/config_dump"):
        assert edge.http("GET", path).status == 404


@pytest.mark.control("A4", "a request id from outside is bounded")
def test_a_request_id_comes_back_and_is_bounded(edge: BareEdge) -> None:
    assert edge.http("GET", "/v1/events", [("x-request-id", "mine")]).header("x-request-id") == ["mine"]
    assert edge.http("GET", "/v1/events", [("x-request-id", "a" * 500)]).header("x-request-id") == ["a" * 64]
    assert len(edge.http("GET", "/v1/events").header("x-request-id")[0]) == 36


def test_a_clients_own_envoy_headers_mean_nothing(edge: BareEdge) -> None:
    forged: Headers = [
        ("x-envoy-original-path", "/x"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-forwarded-for", "9.9.9.9"),
    ]
    seen = dict(edge.http("GET", "/v1/events", [*forged, ("x-probe", "arrives")]).seen["headers"])
    assert seen["x-probe"] == "arrives"
    assert [name for name in seen if name.startswith("x-envoy") and name != "x-envoy-external-address"] == []


def test_a_stranger_on_the_network_reaches_loopback_only(edge: BareEdge) -> None:
    with socket.create_connection(("127.0.0.1", edge.port), timeout=5):
        pass
    with contextlib.suppress(OSError):
        outside = socket.gethostbyname(socket.gethostname())
        if not outside.startswith("127."):
            with pytest.raises(OSError, match=r"refused|unreachable"):
                socket.create_connection((outside, edge.port), timeout=2)
