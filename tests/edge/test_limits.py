"""The limit by address at the edge, before anybody is signed in (R1)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.envoy import routes
from libs.rpc import policy
from tests.support.edge import PUBLIC, UNARY, BareEdge, Headers

LIMIT = 5
SIGNED_IN: Headers = [("authorization", "Bearer anything")]


@pytest.fixture
def narrow() -> Iterator[BareEdge]:
    """An edge that allows five anonymous requests a minute."""
    with tempfile.TemporaryDirectory(prefix="hf-edge-") as name:
        with BareEdge(Path(name), anonymous_per_minute=LIMIT).running() as edge:
            yield edge


@pytest.mark.control("R1", "one address makes so many requests a minute before sign-in")
def test_the_anonymous_limit_counts_by_address_and_spares_the_signed_in(narrow: BareEdge) -> None:
    assert [narrow.http("GET", "/v1/events").status for _ in range(LIMIT + 1)] == [200] * LIMIT + [429]
    refused = narrow.http("GET", "/v1/events", [("x-forwarded-for", "9.9.9.9")])
    assert refused.status == 429, "a forged address opened another bucket"
    assert refused.header("retry-after") == ["60"]
    assert narrow.h2(UNARY).header("grpc-status") == ["8"]
    cookie: Headers = [("cookie", "a=b; __Host-session=x")]
    assert narrow.http("GET", "/v1/events", SIGNED_IN).status == 200
    assert narrow.http("GET", "/v1/events", cookie).status == 200


@pytest.mark.control("R1", "an invented credential does not lift the limit from a public method")
def test_an_invented_credential_does_not_lift_the_limit_from_signing_in(narrow: BareEdge) -> None:
    statuses = [narrow.h2(PUBLIC, SIGNED_IN).header("grpc-status") for _ in range(LIMIT + 1)]
    assert statuses == [[]] * LIMIT + [["8"]]
    assert narrow.h2(UNARY, SIGNED_IN).status == 200


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[BareEdge]:
    """An edge that gives a unary call a second."""
    monkeypatch.setattr(routes, "UNARY_SECONDS", 1)
    with tempfile.TemporaryDirectory(prefix="hf-edge-") as name, BareEdge(Path(name)).running() as edge:
        yield edge


def test_a_unary_call_that_nobody_answers_ends_at_the_edge(impatient: BareEdge) -> None:
    assert impatient.h2(UNARY, SIGNED_IN).status == 200
    impatient.silent.set()
    assert impatient.h2(UNARY, SIGNED_IN).header("grpc-status") == ["4"]
    refused = impatient.http("POST", UNARY, [*SIGNED_IN, ("content-type", "application/json")], b"{}")
    assert (refused.status, b"in time" in refused.body) == (504, True)


def test_every_unary_route_has_its_end_and_no_stream_has() -> None:
    methods = policy.all_methods()
    for made in routes.method_routes(methods):
        declared = methods[made["match"]["path"]]
        streams = declared.client_streaming or declared.server_streaming
        ends = made["route"].get("max_stream_duration", {}).get("max_stream_duration", "")
        assert bool(ends) is not streams, made["name"]


def test_a_put_without_a_length_stores_no_empty_file(edge: BareEdge) -> None:
    assert edge.http("PUT", "/v1/files/a", SIGNED_IN, b"").seen["received"] == 0
    refused = edge.raw(b"PUT /v1/files/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (refused.status, b"Content-Length" in refused.body) == (411, True)
    assert edge.http("GET", "/v1/files/a", SIGNED_IN).status == 200


def test_an_address_that_leads_nowhere_says_so(edge: BareEdge) -> None:
    answer = edge.http("GET", "/nowhere")
    assert (answer.status, b"nothing at this address" in answer.body) == (404, True)
    assert edge.h2("/nowhere").header("grpc-status") == ["12"]
