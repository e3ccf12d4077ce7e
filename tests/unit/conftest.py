"""Fixtures of the unit tests."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from libs.observability import log
from tests.unit.lines import Lines


@pytest.fixture
def lines() -> Iterator[Lines]:
    """JSON log lines of the running test, from debug up; logging is as it was afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = Lines()
    log.configure("unit", "json", "debug", stream=stream)
    yield stream
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)
