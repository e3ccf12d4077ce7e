"""One foreign program, run to its end without leaving it behind."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from libs.timeouts import within

# What a program may need of our environment; nothing else of it is passed on, secrets least of all.
PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# The kernel ends the program when this service dies, however it dies.
_BOUND_TO_US = ("setpriv", "--pdeathsig", "TERM", "--")
_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. code: negative is the signal that ended it."""

    code: int
    out: str
    err: str

    def last_words(self) -> str:
        """The end of what it said on stderr, or else on stdout: at most 600 characters on one line."""
        return " ".join((self.err.strip() or self.out).split())[-600:]


async def run(argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] = PATH) -> Finished:
    """*argv* to its end; ended by SIGTERM, then SIGKILL, on timeout (code -15) and on cancellation, with its workers.

    Raises OSError when it cannot be started.
    """
    child = await asyncio.create_subprocess_exec(
        *_BOUND_TO_US,
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
        cwd="/",
        start_new_session=True,
    )
    try:
        out, err = await within(timeout_seconds, child.communicate())
    except TimeoutError:
        await _end_all(child)
        return Finished(-signal.SIGTERM, "", f"not finished after {timeout_seconds:g} seconds")
    except asyncio.CancelledError:
        await _end_all(child)
        raise
    return Finished(child.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


async def _end_all(child: asyncio.subprocess.Process) -> None:
    """End *child*, then what is left of its session: a worker that outlives it would go on writing."""
    try:
        await end(child)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


async def end(child: asyncio.subprocess.Process, *, ask: bool = True) -> None:
    """End *child*: SIGTERM, and SIGKILL when that did not help in ten seconds. ask: False when it is told already."""
    if ask:
        with suppress(ProcessLookupError):
            child.terminate()
    try:
        await within(_GRACE_SECONDS, child.wait())
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
