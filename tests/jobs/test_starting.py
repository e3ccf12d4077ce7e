"""Many jobs of one claim begin a few at a time, and each end asked for before that is told all the same."""

import asyncio
import json
import math
from collections.abc import Callable

import pytest

from libs.jobqueue import Handler, Lease
from libs.jobqueue.claim import Found
from libs.jobqueue.completion import Told
from libs.jobqueue.run import Run, Starting
from tests.jobs.doing import ANNA
from tests.jobs.samples import SendNote

MANY = 250
Ends = asyncio.Queue[Told | None]
"""How runs ended; None for one that says nothing."""


async def test_the_loop_turns_while_the_jobs_of_a_large_claim_begin() -> None:
    seen: list[str] = []

    async def handle(job: SendNote, _lease: Lease) -> None:
        seen.append(job.text)

    told: Ends = asyncio.Queue()
    starting, runs = Starting(), [run(str(at), handle, told) for at in range(MANY)]
    starting.start(runs[:-1])
    starting.start(runs[-1:])
    asyncio.get_running_loop().call_soon(seen.append, "an answer of the database")
    async with asyncio.timeout(20):
        for _ in range(MANY):
            await told.get()
    assert seen.index("an answer of the database") < MANY - 1
    seen.remove("an answer of the database")
    assert seen == [str(at) for at in range(MANY)]


@pytest.mark.parametrize(
    ("stop", "kind"), [(Run.release, "release"), (Run.cancel, "cancelled"), (Run.overrun, "retry"), (Run.lose, None)]
)
async def test_a_job_stopped_before_its_turn_never_reaches_its_handler(
    stop: Callable[[Run], None], kind: str | None
) -> None:
    seen: list[str] = []

    async def handle(job: SendNote, _lease: Lease) -> None:
        seen.append(job.text)

    told: Ends = asyncio.Queue()
    stopped, other = run("stopped", handle, told), run("other", handle, told)
    stop(stopped)
    Starting().start([stopped, other])
    async with asyncio.timeout(20):
        first, second = await told.get(), await told.get()
    assert (first and first.kind, second and second.kind) == (kind, "done")
    assert seen == ["other"]


async def test_a_run_whose_end_waits_to_be_written_is_no_longer_past_its_time() -> None:
    """Its heart took it back while the database was away, and it ran again with a crash counted."""

    async def handle(_job: SendNote, _lease: Lease) -> None:
        return

    told: Ends = asyncio.Queue()
    ended = run("x", handle, told)
    assert ended.until == 0.0
    Starting().start([ended])
    async with asyncio.timeout(20):
        assert await told.get() is not None
    assert ended.until == math.inf


def run(text: str, handle: Handler[SendNote], told: Ends) -> Run:
    found = Found("send_note", json.dumps({"text": text, "times": 1}), Lease(text, 1, 1, ANNA), 300)
    return Run(found, (SendNote, handle), until=0.0, ended=told.put_nowait, vanished=lambda _run: told.put_nowait(None))
