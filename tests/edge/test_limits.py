"""The limit by address at the edge, before anybody is signed in (R1)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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
