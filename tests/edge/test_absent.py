"""The edge without auth: it denies, says so in each protocol, and goes on by itself when auth is back."""

import struct
import tempfile
from pathlib import Path

import pytest

from tests.support.edge import UNARY, BareEdge

MESSAGE = struct.pack(">BI", 0, 0)


@pytest.mark.control("T10", "any fault of auth denies")
def test_an_absent_check_denies_and_its_return_is_noticed() -> None:
    web = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")]
    with tempfile.TemporaryDirectory(prefix="hf-edge-") as name, BareEdge(Path(name)).running() as edge:
        edge.answers.close = True  # so that no open connection goes on serving
        assert edge.http("GET", "/v1/events").status == 200
        place, away = edge.directory / "check.sock", edge.directory / "check.away"
        place.rename(away)
        plain = edge.http("GET", "/v1/events")
        assert (plain.status, plain.header("retry-after")) == (503, ["2"])
        native = edge.h2(UNARY)
        assert native.header("grpc-status") == ["14"], native
        assert edge.http("POST", UNARY, web, MESSAGE).header("grpc-status") == ["14"]
        away.rename(place)
        assert edge.http("GET", "/v1/events").status == 200
