"""Event streams pass the edge at once and are not cut while they beat."""

import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest

from deploy.envoy import routes
from tests.support.edge import BareEdge

IDLE_SECONDS = 4


@contextmanager
def following(edge: BareEdge) -> Iterator[HTTPResponse]:
    """An open event stream."""
    trust = ssl.create_default_context(cafile=str(edge.ca_file))
    connection = HTTPSConnection("127.0.0.1", edge.port, context=trust, timeout=20)
    try:
        connection.request("GET", "/v1/events", headers={"accept": "text/event-stream"})
        reply = connection.getresponse()
        assert reply.status == 200
        yield reply
    finally:
        edge.feed.put(None)
        connection.close()


@pytest.mark.control("O1", "event streams pass unbuffered and uncut")
def test_an_event_passes_before_the_next_one_exists(edge: BareEdge) -> None:
    with following(edge) as stream:
        for number in range(20):
            edge.feed.put(b"data: %d\n\n" % number)
            assert stream.readline() == b"data: %d\n" % number
            assert stream.readline() == b"\n"


@pytest.mark.control("O1", "event streams pass unbuffered and uncut")
def test_a_beating_stream_outlives_the_idle_time_and_a_silent_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the idle time shortened from 45 s to 2 s: the beat is what keeps a stream, whatever the time is."""
    monkeypatch.setattr(routes, "SSE_IDLE_SECONDS", IDLE_SECONDS)
    with tempfile.TemporaryDirectory(prefix="hf-edge-") as name, BareEdge(Path(name)).running() as edge:
        with following(edge) as stream:
            begun, beat = time.monotonic(), threading.Event()
            while time.monotonic() < begun + 2 * IDLE_SECONDS:
                edge.feed.put(b": beat\n\n")
                assert stream.readline() + stream.readline() == b": beat\n\n"
                beat.wait(IDLE_SECONDS / 4)
        with following(edge) as stream:
            words = b""
            with suppress(
                ConnectionError, HTTPException, ssl.SSLError
            ):  # cut: not a time-out of ours, which is none of these
                words = stream.readline()
            assert words == b""
