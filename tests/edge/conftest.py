"""One edge with strangers behind it for all tests of this folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.edge import Answers, BareEdge


@pytest.fixture(scope="session")
def running_edge() -> Iterator[BareEdge]:
    """Envoy with the configuration that ships."""
    with tempfile.TemporaryDirectory(prefix="hf-edge-") as name, BareEdge(Path(name)).running() as edge:
        yield edge


@pytest.fixture
def edge(running_edge: BareEdge) -> BareEdge:
    """The same, with the check as it is told by default."""
    default = Answers()
    running_edge.answers.token, running_edge.answers.status = default.token, default.status
    running_edge.answers.close = default.close
    running_edge.answers.asked.clear()
    return running_edge
