"""Job types and a worker process for the tests of the queue.

`python -m tests.jobs.samples <json login>` runs a worker whose handler writes one line on standard output when it
begins and one when it ends, so a test can kill it in the middle.
"""

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from typing import ClassVar

from libs.db import Database, Limits
from libs.jobqueue import Lease, Timing, Worker
from tests.support.postgres import Login, Password

SHORT = Timing(poll_seconds=0.2, beat_seconds=0.2, dead_seconds=1.5, reap_seconds=0.2, flush_seconds=0.01)


@dataclass(frozen=True, slots=True)
class SendNote:
    """Says something."""

    text: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class TryTwice:
    """Goes to the dead letters after its second failure."""

    max_attempts: ClassVar[int] = 2
    text: str


@dataclass(frozen=True, slots=True)
class Brief:
    """Has a fifth of a second."""

    timeout_seconds: ClassVar[float] = 0.2
    text: str


async def _serve(login: Login, hold: str) -> None:
    database = Database.connect(login, limits=Limits(connections=3))
    release = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        print(f"begin {lease.job_id} {lease.lease}", flush=True)
        if hold == "hold":
            await release.wait()
        print(f"end {lease.job_id} {lease.lease}", flush=True)

    worker = Worker(database, "files", {SendNote: handle}, concurrency=4, timing=SHORT)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, release.set)
    await worker.start()
    print("started", flush=True)
    await ended.wait()
    await worker.drain(float(sys.argv[3]))
    await worker.stop()
    await database.stop()
    print("stopped", flush=True)


def main() -> None:
    """Read the login from the arguments and serve until SIGTERM."""
    values = json.loads(sys.argv[1])
    values["database_password"] = Password(values["database_password"].encode())
    asyncio.run(_serve(Login(**values), sys.argv[2]))


if __name__ == "__main__":
    main()
