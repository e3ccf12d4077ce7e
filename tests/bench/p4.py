"""P4: the queue of P3 with a million finished jobs behind it, while another transaction stays open for ten minutes.

Slices in turn: ours in a database whose snapshot a REPEATABLE READ transaction holds, ours in a copy of it without
one (it holds back the vacuum of its own database only), pgqueuer with its own million and such a transaction.
Judged are the last slices. BENCH_OPEN_SECONDS sets how long the transactions stay open.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from tests.bench.own_stack import until
from tests.bench.picture import chart
from tests.bench.queues.environment import peers
from tests.bench.queues.server import OURS, Server, serving
from tests.bench.queues.side import Side, sides
from tests.bench.row import Row, judged, pairs, reported

ID = "P4"
FINISHED = 1_000_000
GROUP = 100_000
OPEN_SECONDS = 600.0
QUICK_SECONDS = 20.0
SLICE_SECONDS = 20.0
CLEAN = 0.05
"""Dead rows are clean when this share of those at the release is left."""
CLEAN_SECONDS = 300.0
HOLD = "SELECT count(*) FROM pg_class"
DEAD = "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables"


@dataclass(slots=True)
class Lane:
    """One queue in one database, drained again and again. left: jobs that the last slice did not reach."""

    side: Side
    database: str
    left: int = 0
    points: list[tuple[float, float]] = field(default_factory=list)

    def slice(self, began: float) -> None:
        """Fill it up and drain it; notes the minute and the jobs a second."""
        wanted = self.side.jobs
        self.side.put(self.database, max(1, wanted - self.left))
        answer = self.side.drain(self.database, max(wanted, self.left + 1), SLICE_SECONDS)
        self.left = max(wanted, self.left + 1) - int(answer["handled"])
        pace = float(answer["handled"]) / (float(answer["seconds"]) - float(answer["first"]))
        self.points.append(((time.monotonic() - began) / 60, pace))

    def last(self, rounds: int) -> list[float]:
        """Jobs a second of the last slices."""
        return [pace for _, pace in self.points[-rounds:]]

    def dead(self) -> int:
        """Dead rows by the statistics."""
        with self.side.server.admin(self.database) as connection:
            row = connection.execute(DEAD).fetchone()
        assert row is not None
        return int(str(row[0]))


def finished(side: Side, jobs: int) -> str:
    """A database in which so many jobs were really run."""
    database = side.fresh("open")
    for at in range(0, jobs, GROUP):
        side.put(database, min(GROUP, jobs - at))
        side.drain(database, min(GROUP, jobs - at))
    return database


def hold(stack: ExitStack, server: Server, database: str) -> None:
    """Open a transaction that has taken its snapshot."""
    connection = stack.enter_context(server.admin(database))
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute(HOLD)


def clean_seconds(lane: Lane) -> tuple[float, int]:
    """Seconds until autovacuum has removed the dead rows, and how many there were."""
    dead, began = lane.dead(), time.monotonic()
    until(lambda: lane.dead() <= dead * CLEAN, "autovacuum to remove the dead rows", within=CLEAN_SECONDS)
    return time.monotonic() - began, dead


def run(rounds: int) -> Iterator[Row]:
    """Every figure of P4."""
    full = rounds > 1
    jobs = FINISHED if full else FINISHED // 20
    seconds = float(os.environ.get("BENCH_OPEN_SECONDS", OPEN_SECONDS if full else QUICK_SECONDS))
    made = peers()
    with serving() as server, ExitStack() as transactions:
        found = sides(server, made, 1.0 if full else 0.2, OURS, "pgqueuer")
        ours, peer = found["ours"], found["pgqueuer"]
        held = Lane(ours, finished(ours, jobs))
        free = Lane(ours, server.copy(held.database, f"{OURS}_free"))
        other = Lane(peer, finished(peer, jobs))
        began = time.monotonic()
        other.slice(began)  # before the transaction opens
        for lane in (held, other):
            hold(transactions, server, lane.database)
        while len(held.points) < rounds or time.monotonic() - began < seconds:
            for lane in (held, free, other):
                lane.slice(began)
        shared = f"{server.conditions()}; {jobs} jobs finished before; transaction open {seconds:g} s; {ours.settings}"
        yield open_row(held, free, other, rounds, shared)
        yield peer_row(other, rounds, shared)
        transactions.close()
        yield clean_row(held, shared)


def open_row(held: Lane, free: Lane, other: Lane, rounds: int, shared: str) -> Row:
    """Ours with the transaction, beside itself without."""
    ours, theirs = held.last(rounds), free.last(rounds)
    slices = f"slices of {held.side.jobs} jobs, the last {rounds} of {len(held.points)}: {pairs(ours, theirs)}"
    row = judged(
        "≥ 0.8", id_=ID, metric="drain beside a long transaction", unit="jobs/s", ours=ours, theirs=theirs,
        beside="itself without the open transaction", conditions=f"{shared}; {slices}; {held.dead()} dead rows at last",
    )  # fmt: skip
    curves = {
        "transaction open": held.points,
        "no transaction": free.points,
        f"{other.side.label}, transaction open": other.points,
    }
    title = "Drain while another transaction stays open"
    return replace(row, picture=("p4-open.svg", chart(title, "minutes", "jobs/s", curves, log_x=False)))


def peer_row(other: Lane, rounds: int, shared: str) -> Row:
    """The same once with pgqueuer, beside itself before."""
    first = other.points[0][1]
    last = other.last(rounds)
    return reported(
        id_=ID, metric="the same with pgqueuer", unit="jobs/s", ours=last, theirs=[first],
        beside=f"{other.side.label} before the transaction", conditions=f"{shared}; {other.dead()} dead rows at last",
    )  # fmt: skip


def clean_row(held: Lane, shared: str) -> Row:
    """Time to clean after release."""
    taken, dead = clean_seconds(held)
    return reported(
        id_=ID, metric="dead rows clean after the release", unit="s", ours=[taken],
        beside=f"autovacuum, {dead} dead rows to at most {CLEAN:.0%} of them", conditions=shared,
    )  # fmt: skip
