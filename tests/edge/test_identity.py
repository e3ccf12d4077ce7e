"""No identity header of a client's ever arrives, in any spelling; the one that auth gives arrives once (T2)."""

import pytest

from tests.support.edge import UNARY, Answer, BareEdge, Headers

FORGED = "forged-by-the-client"
SPELLINGS: list[Headers] = [
    [("x-user-token", FORGED)],
    [("x-user-token", FORGED), ("x-user-token", FORGED)],
    [("x-user-token", f"{FORGED}, {FORGED}")],
    [("x-user-token", "")],
    [("x-user-token", f"{FORGED} ")],
    [("x-user-token", f"{FORGED}\xff")],
    [("x.user.token", FORGED)],
    [("x-user.token", FORGED)],
    [("x!user-token", FORGED)],
    [("x-user-token-bin", "Zm9yZ2Vk")],
    [("x-service-token", FORGED)],
    [("x.service.token", FORGED)],
]
REJECTED: list[Headers] = [[("x_user_token", FORGED)], [("x-user_token", FORGED)]]
MINTED = ["minted-by-auth"]
GIVEN = pytest.mark.parametrize("token", ["minted-by-auth", ""], ids=["auth gives a token", "auth gives none"])


def identities(pairs: list[list[str]]) -> list[str]:
    """The values of all headers that could be taken for an identity."""
    return [value for name, value in pairs if ("user" in name and "agent" not in name) or "service" in name]


def assert_only_auths(answer: Answer, token: str) -> None:
    """The upstream was reached, saw the probe, and no identity but auth's."""
    assert answer.status == 200, answer
    assert ["x-probe", "arrives"] in answer.seen["headers"]
    assert identities(answer.seen["headers"]) == ([token] if token else [])
    assert identities(answer.seen["trailers"]) == []


@GIVEN
@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
@pytest.mark.control("T2", "the edge removes every spelling")
def test_a_forged_identity_never_arrives_over_http2(edge: BareEdge, spelling: Headers, token: str) -> None:
    edge.answers.token = token
    assert_only_auths(edge.h2(UNARY, [*spelling, ("x-probe", "arrives")]), token)


@GIVEN
@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
@pytest.mark.control("T2", "the edge removes every spelling")
def test_a_forged_identity_never_arrives_in_trailers(edge: BareEdge, spelling: Headers, token: str) -> None:
    edge.answers.token = token
    answer = edge.h2(UNARY, [("x-probe", "arrives")], [*spelling, ("x-probe", "in trailers")])
    assert ["x-probe", "in trailers"] in answer.seen["trailers"]
    assert_only_auths(answer, token)


@GIVEN
@pytest.mark.parametrize("name", ["X-User-Token", "x-user-token", "X-USER-TOKEN", "X.User.Token", "X-User-Token-Bin"])
@pytest.mark.parametrize("path", [UNARY, "/v1/events", "/v1/files/a"])
@pytest.mark.control("T2", "the edge removes every spelling")
def test_a_forged_identity_never_arrives_over_http1(edge: BareEdge, name: str, path: str, token: str) -> None:
    edge.answers.token = token
    method = "POST" if path == UNARY else "GET"
    request = f"{method} {path} HTTP/1.1\r\nhost: a\r\n{name}: {FORGED}\r\n{name}: {FORGED}\r\nx-probe: arrives\r\n"
    assert_only_auths(edge.raw(f"{request}content-length: 0\r\nconnection: close\r\n\r\n".encode()), token)


@pytest.mark.parametrize("spelling", REJECTED, ids=str)
def test_an_underscore_in_a_name_is_refused_over_http2(edge: BareEdge, spelling: Headers) -> None:
    assert edge.h2(UNARY, [("x-probe", "arrives")]).status == 200
    assert edge.h2(UNARY, spelling).closed
    assert edge.h2(UNARY, [], spelling).closed


@pytest.mark.parametrize("name", ["X_User_Token", "x-user_token", "x-user-token ", "x-user-token\t"])
def test_a_malformed_name_is_refused_over_http1(edge: BareEdge, name: str) -> None:
    request = f"GET /v1/events HTTP/1.1\r\nhost: a\r\n{name}: {FORGED}\r\nconnection: close\r\n\r\n".encode()
    assert edge.raw(request).status == 400
    assert edge.raw(request.replace(name.encode(), b"x-probe")).status == 200


@pytest.mark.parametrize("name", ["X-User-Token", "x user-token", "x-user-token\0"])
def test_a_malformed_name_ends_the_connection_over_http2(edge: BareEdge, name: str) -> None:
    assert edge.h2(UNARY, [(name, FORGED)]).closed
    assert edge.h2(UNARY, [("x-probe", "arrives")]).status == 200


def test_the_credential_stops_at_the_edge_for_all_but_auth(edge: BareEdge) -> None:
    """The check sees it; a service lives by the user token. Auth itself needs the refresh cookie."""
    credential: Headers = [("authorization", "Bearer abc"), ("cookie", "__Host-session=abc")]
    seen = edge.h2(UNARY, credential).seen["headers"]
    assert {name for name, _ in seen} & {"authorization", "cookie"} == set()
    method, path, asked = edge.answers.asked[-1]
    assert (method, path) == ("POST", f"/files{UNARY}")
    assert ("authorization", "Bearer abc") in asked
    refresh = edge.h2("/holdfast.auth.v1.AuthService/RefreshSession", credential).seen["headers"]
    assert ["cookie", "__Host-session=abc"] in refresh


@pytest.mark.parametrize("status", [401, 403, 500])
@pytest.mark.control("T10", "any fault of auth denies")
def test_a_check_that_does_not_allow_denies(edge: BareEdge, status: int) -> None:
    assert edge.h2(UNARY).status == 200
    edge.answers.status = status
    answer = edge.h2(UNARY)
    assert b"headers" not in answer.body
    assert answer.header("grpc-status") != ["0"]


@pytest.mark.parametrize("path", ["/v1/files/a", UNARY])
def test_the_check_is_told_the_content_type_by_the_edge_alone(edge: BareEdge, path: str) -> None:
    """Under its own name it would make the check a gRPC call, whose failures Envoy answers with HTTP 200."""
    forged: Headers = [("x-original-content-type", "text/forged")]
    answer = edge.http("POST", path, [*forged, ("content-type", "text/plain")], b"")
    asked = [(name, value) for name, value in edge.answers.asked[-1][2] if "content-type" in name]
    assert asked == [("x-original-content-type", "text/plain")]
    assert ["x-original-content-type", "text/plain"] not in answer.seen["headers"]
    edge.http("POST", path, forged, b"")
    assert [name for name, _ in edge.answers.asked[-1][2] if "content-type" in name] == []
