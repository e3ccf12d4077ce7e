"""P9's growth: time and memory of a drill against the size of the database, which pgbench fills."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from deploy.stack.parts import Parts
from deploy.stack.postgres import binaries
from holdfast.backup.v1 import backup_service_pb2 as pb
from tests.bench.hand_drill import HandDrill
from tests.bench.memory import descendants, pss_mib
from tests.bench.own_stack import seconds
from tests.bench.picture import Points, chart
from tests.bench.row import Row, listed, reported
from tests.support.stack import Stack

ID = "P9"
SCALES = (7, 67, 335)
"""Of pgbench: some 15 MB a unit, so 0.1, 1 and 5 GB."""
QUICK = (1, 2)
UNIT_MIB = 16
ROOM = 4
"""Times the database: itself, its WAL, the repository and the copy."""
SAMPLE_SECONDS = 0.1
FILL_SECONDS = 900.0


class Operator(Protocol):
    """What tests.bench.p9 has."""

    def back_up(self) -> float: ...
    def archived_moment(self) -> datetime: ...
    def drill(self, at: datetime) -> pb.Drill: ...


@dataclass(frozen=True, slots=True)
class Point:
    """Of one size: seconds of the drill, of the same by hand and of each phase; MiB that the drill took at most."""

    size_gib: float
    seconds: float
    by_hand: float
    phases: dict[str, float]
    memory_mib: float


class Peak:
    """The most memory that a process and all below it have had together, beyond what they had at first."""

    def __init__(self, root: int) -> None:
        self._root, self._done = root, threading.Event()
        self._first = self._now()
        self._most = self._first

    @property
    def grown_mib(self) -> float:
        """MiB of PSS."""
        return self._most - self._first

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look ten times a second."""
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            yield
        finally:
            self._done.set()
            watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._most = max(self._most, self._now())

    def _now(self) -> float:
        return sum(map(pss_mib, descendants(self._root)))


def growth(stack: Stack, who: Operator, rounds: int, engine: str) -> Iterator[Row]:
    """Each size once, the smallest first; two pictures."""
    points = [_point(stack, who, scale) for scale in (SCALES if rounds > 1 else QUICK)]
    phases = "; ".join(f"{point.size_gib:.2f} GiB: {listed(point.phases, 's', 1)}" for point in points)
    sizes = ", ".join(f"{point.size_gib:.2f} GiB {point.seconds:.1f}/{point.by_hand:.1f} s" for point in points)
    times: dict[str, Points] = {
        "drill": [(point.size_gib, point.seconds) for point in points],
        f"{engine} by hand": [(point.size_gib, point.by_hand) for point in points],
        "of it: restore": [(point.size_gib, point.phases.get("restore", 0.0)) for point in points],
    }
    yield reported(
        id_=ID, metric="growth: drill against database size", unit="s", ours=[points[-1].seconds],
        beside=f"{engine} and postgres by hand, same isolation and checks", theirs=[points[-1].by_hand],
        conditions=f"pgbench -i; each size once, after one drill apart; drill/by hand: {sizes}; phases: {phases}",
        picture=("p9-size.svg", chart("Drill against database size", "GiB", "s", times, log_x=False)),
    )  # fmt: skip
    grown = ", ".join(f"{point.size_gib:.2f} GiB {point.memory_mib:.0f}" for point in points)
    memory: dict[str, Points] = {"drill": [(point.size_gib, point.memory_mib) for point in points]}
    yield reported(
        id_=ID, metric="growth: memory of a drill against database size", unit="MiB", ours=[points[-1].memory_mib],
        beside=f"itself at {points[0].size_gib:.2f} GiB", theirs=[points[0].memory_mib],
        conditions="PSS of the backup service and all it started, copy's postgres and its shared buffers included, "
        f"at most, beyond the service at rest; {grown} MiB",
        picture=("p9-memory.svg", chart("Memory of a drill against database size", "GiB", "MiB", memory, log_x=False)),
    )  # fmt: skip


def _point(stack: Stack, who: Operator, scale: int) -> Point:
    size = _fill(stack.parts, scale)
    who.back_up()
    at = who.archived_moment()
    peak = Peak(stack.supervisor.states()["backup"]["pid"])
    # Apart from what is timed: looking takes the processor's time, and the first restore reads a cold store.
    with peak.watched():
        first = who.drill(at)
    by_hand = HandDrill(stack.parts, first.backup_label, at, first.isolation).run()
    made: list[pb.Drill] = []
    taken = seconds(lambda: made.append(who.drill(at)))
    phases = {phase.phase: phase.elapsed_seconds for phase in made[0].phases}
    return Point(size, taken, by_hand, phases, peak.grown_mib)


def _fill(parts: Parts, scale: int) -> float:
    """GiB of the cluster with pgbench's tables of *scale* in the service's own database."""
    cluster = parts.cluster
    free = shutil.disk_usage(cluster.data_dir).free >> 20
    if free < scale * UNIT_MIB * ROOM:
        raise OSError(f"P9's growth needs {scale * UNIT_MIB * ROOM} MiB beside {cluster.data_dir}, and {free} are free")
    command: Sequence[str] = [str(binaries() / "pgbench"), "-i", "-q", "-s", str(scale)]
    where = {"PGHOST": str(cluster.socket_dir), "PGPORT": str(cluster.port), "PGUSER": "postgres"}
    subprocess.run(
        [*command, cluster.database], env={**os.environ, **where, "PGOPTIONS": "-c search_path=bench"},
        check=True, capture_output=True, timeout=FILL_SECONDS,
    )  # fmt: skip
    with cluster.admin(cluster.database) as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT sum(pg_database_size(oid))::float8 / (1 << 30) FROM pg_database").fetchone()
    assert row is not None
    return float(str(row[0]))
