"""`python -m tests.jobs.ticking <json login> <hours>`: makes periodic jobs by a clock that is off by so many hours."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from datetime import timedelta

from libs.db import Database, Limits
from libs.jobqueue import Periodic, Timetable
from tests.support.postgres import Login, Password


@dataclass(frozen=True, slots=True)
class SweepUp:
    """Comes every second."""


@dataclass(frozen=True, slots=True)
class LockUp:
    """Comes every two seconds."""


async def _tick(login: Login) -> None:
    database = Database.connect(login, limits=Limits(connections=2))
    every = timedelta(seconds=1)
    tasks = [Periodic(SweepUp(), every=every, misfire="all"), Periodic(LockUp(), every=2 * every, misfire="all")]
    timetable = Timetable(database, "files", tasks)
    await timetable.start()
    print("started", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    timetable.refuse()
    await timetable.stop()
    await database.stop()


def main() -> None:
    """Tick until standard input ends."""
    values = json.loads(sys.argv[1])
    values["database_password"] = Password(values["database_password"].encode())
    seconds, real, real_ns = float(sys.argv[2]) * 3600, time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
    asyncio.run(_tick(Login(**values)))


if __name__ == "__main__":
    main()
