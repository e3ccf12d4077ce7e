"""A stack for one benchmark: installed, brought up in a directory of its own, destroyed however the benchmark ends."""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.stack.parts import Part
from tests.support.stack import Stack, install

POLL_SECONDS = 0.02
START_SECONDS = 60.0


@contextmanager
def own_stack() -> Iterator[Stack]:
    """A stack that is up, Prometheus apart. Being asked to end destroys it too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    install()
    home = Path(tempfile.mkdtemp(prefix="hf-bench-"))
    home.chmod(0o755)
    stack = Stack(home, prometheus=False)
    try:
        stack.up()
        yield stack
    finally:
        stack.clean()
        shutil.rmtree(home)


def seconds(deed: Callable[[], object]) -> float:
    """What *deed* takes."""
    began = time.monotonic()
    deed()
    return time.monotonic() - began


def until(done: Callable[[], bool], what: str, *, within: float = START_SECONDS) -> None:
    """Return once *done*; raises TimeoutError naming *what*."""
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within:g} s for {what}")
        time.sleep(POLL_SECONDS)


def well(part: Part) -> None:
    """Wait until *part* says that it is well."""
    until(lambda: not part.fault(), f"{part.name} to be well")
