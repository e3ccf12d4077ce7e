"""P9: a full backup, and a drill from request to verdict, beside the same done with pgbackrest and postgres by hand."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from deploy.stack.parts import Parts
from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1.backup_service_pb2_grpc import BackupServiceStub, DrillServiceStub
from tests.bench.drill_growth import growth
from tests.bench.hand_drill import HandDrill, pgbackrest
from tests.bench.own_stack import own_stack, seconds
from tests.bench.row import Row, alternating, judged, listed, middles, pairs
from tests.support.backup import middle
from tests.support.stack import Stack

ID = "P9"
FILLING_MIB = 256
"""Rows in the cluster beside what Holdfast itself has there (some 30 MiB)."""
CALL_SECONDS = 600.0
FILLING = """
CREATE SCHEMA bench;
CREATE TABLE bench.filling WITH (autovacuum_enabled = off) AS
  SELECT n, (SELECT string_agg(encode(sha512((n * 8 + part)::text::bytea), 'hex'), '') FROM generate_series(1, 8) part)
    FROM generate_series(1, {rows}) n;
CHECKPOINT
"""
ROW_BYTES = 1170
"""What a row of it takes in its page: seven of them fill one. Its digits can be halved by compression."""


@dataclass(slots=True)
class Operator:
    """The operator socket of the stack, and what its work took, phase by phase."""

    backups: BackupServiceStub
    drills: DrillServiceStub
    phases: list[dict[str, float]] = field(default_factory=list)

    def back_up(self) -> float:
        """Seconds from asking for a full backup to its end, seen by a watcher."""
        began = time.monotonic()
        asked = pb.CreateBackupRequest(backup=pb.Backup(type=pb.BACKUP_TYPE_FULL))
        made = self.backups.CreateBackup(asked, timeout=CALL_SECONDS).backup
        for update in self.backups.WatchBackup(pb.WatchBackupRequest(name=made.name), timeout=CALL_SECONDS):
            made = update.backup
        taken = time.monotonic() - began
        assert made.state == pb.STATE_SUCCEEDED, made
        return taken

    def drill(self, at: datetime) -> pb.Drill:
        """A drill to *at*, followed to its verdict."""
        asked = pb.Drill()
        asked.target.time.FromDatetime(at)
        made = self.drills.CreateDrill(pb.CreateDrillRequest(drill=asked), timeout=CALL_SECONDS).drill
        for update in self.drills.WatchDrill(pb.WatchDrillRequest(name=made.name), timeout=CALL_SECONDS):
            made = update.drill
        assert made.state == pb.STATE_SUCCEEDED, made
        return made

    def drill_seconds(self, at: datetime) -> float:
        """Seconds of a drill to *at* as its watcher sees it."""
        began = time.monotonic()
        made = self.drill(at)
        taken = time.monotonic() - began
        self.phases.append({phase.phase: phase.elapsed_seconds for phase in made.phases})
        return taken

    def archived_moment(self) -> datetime:
        """A moment between two heartbeats that are both in the repository."""
        earlier, later = (
            self.backups.CreateHeartbeat(pb.CreateHeartbeatRequest(), timeout=CALL_SECONDS).heartbeat for _ in range(2)
        )
        return middle(earlier, later).replace(tzinfo=UTC)


@contextmanager
def operator(stack: Stack) -> Iterator[Operator]:
    """The operator of *stack*."""
    with grpc.insecure_channel(f"unix:{stack.layout.operator_socket}") as channel:
        yield Operator(BackupServiceStub(channel), DrillServiceStub(channel))


def fill(parts: Parts) -> int:
    """Put the filling in; the cluster's size in MiB."""
    with parts.cluster.admin(parts.cluster.database) as connection:
        for statement in FILLING.format(rows=(FILLING_MIB << 20) // ROW_BYTES).split(";"):
            connection.execute(statement.encode())
        row = connection.execute("SELECT sum(pg_database_size(oid))::bigint >> 20 FROM pg_database").fetchone()
    assert row is not None
    return int(str(row[0]))


def backup_by_hand(parts: Parts) -> float:
    """Seconds of `pgbackrest backup --type=full`."""

    def back_up() -> None:
        done = pgbackrest(parts, "backup", "--type=full")
        assert done.returncode == 0, done.stderr

    return seconds(back_up)


def backups(stack: Stack, who: Operator, rounds: int, shared: str) -> Row:
    """The full backup."""
    ours, theirs = alternating(rounds, who.back_up, lambda: backup_by_hand(stack.parts))
    return judged(
        "≤ 1.05", id_=ID, metric="full backup", unit="s", ours=ours, theirs=theirs,
        beside=f"{engine(stack.parts)} by hand", conditions=f"{shared}; each round {pairs(ours, theirs)}",
    )  # fmt: skip


def drills(stack: Stack, who: Operator, rounds: int, shared: str) -> Row:
    """The drill."""
    at = who.archived_moment()
    first = who.drill(at)  # says what is restored and how it is shut in; everything is warm then
    by_hand: list[dict[str, float]] = []

    def theirs_seconds() -> float:
        peer = HandDrill(stack.parts, first.backup_label, at, first.isolation)
        taken = peer.run()
        by_hand.append(peer.spent)
        return taken

    ours, theirs = alternating(rounds, lambda: who.drill_seconds(at), theirs_seconds)
    phases = f"service: {listed(middles(who.phases), 's', 2)}; by hand: {listed(middles(by_hand), 's', 2)}"
    return judged(
        "≤ 1.1", id_=ID, metric="drill, request to verdict and removal", unit="s", ours=ours, theirs=theirs,
        beside=f"{engine(stack.parts)} and postgres by hand, same isolation and checks",
        conditions=f"{shared}; {first.isolation}; {phases}; each round {pairs(ours, theirs)}",
    )  # fmt: skip


def engine(parts: Parts) -> str:
    """Name and version of the engine."""
    return pgbackrest(parts, "version").stdout.strip()


def run(rounds: int) -> Iterator[Row]:
    """Every figure of P9."""
    with own_stack() as stack, operator(stack) as who:
        size = fill(stack.parts)
        who.back_up()  # the first one waits for the archive of the filling
        shared = f"cluster of {size} MiB, S3 repository, zstd, encrypted, 2 processes"
        yield backups(stack, who, rounds, shared)
        yield drills(stack, who, rounds, shared)
        with stack.parts.cluster.admin(stack.parts.cluster.database) as connection:
            connection.execute("DROP TABLE bench.filling")
        yield from growth(stack, who, rounds, engine(stack.parts))
