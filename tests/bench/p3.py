"""P3: the job queue beside pgqueuer, awa-pg, procrastinate and what pgbench does with the least SQL.

Apart: drain (jobs are there, one worker process, until the last completion is durable), bulk enqueue, pick-up (one job
on an idle queue), steady state (both at once at a given rate), and growth against queue depth and number of tenants.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from tests.bench.queues.environment import peers
from tests.bench.queues.growth import depth, tenants
from tests.bench.queues.latency import Watched
from tests.bench.queues.raw import LABEL, Raw
from tests.bench.queues.server import Server, serving
from tests.bench.queues.side import Side, sides
from tests.bench.row import Row, alternating, judged, reported

ID = "P3"
DRAIN_BARS = {"pgqueuer": "≥ 5", "awa": "≥ 2.5", "procrastinate": "≥ 40"}
COMPARED = ("pgqueuer", "awa", "procrastinate")
IDLE_JOBS = 40
IDLE_WITHIN = 60.0
STEADY_SECONDS = 5.0
STEADY: dict[int, Sequence[str]] = {
    300: ("ours", "pgqueuer", "awa", "procrastinate"),
    3000: ("ours", "pgqueuer", "awa"),
}
"""Jobs a second → who can be asked for that."""


def drains(found: Mapping[str, Side], server: Server, rounds: int, scale: float, shared: str) -> Iterator[Row]:
    """Drain-bound."""
    limit = Raw(server, int(400_000 * scale))
    spent: dict[str, list[float]] = {name: [] for name in found}

    def rate(name: str) -> float:
        jobs_a_second, microseconds = found[name].drained()
        spent[name].append(microseconds)
        return jobs_a_second

    figures = alternating(rounds, *(lambda name=name: rate(name) for name in found), limit.rate)
    taken = dict(zip([*found, "raw"], figures, strict=True))
    ours = found["ours"]
    for name, bar in DRAIN_BARS.items():
        peer = found[name]
        told = f"ours: {ours.jobs} jobs, {ours.settings}; {peer.label}: {peer.jobs} jobs, {peer.settings}"
        yield judged(
            bar, id_=ID, metric="drain", unit="jobs/s", ours=taken["ours"], beside=peer.label, theirs=taken[name],
            conditions=f"{shared}; {told}",
        )  # fmt: skip
    default = found["pgqueuer default"]
    yield reported(
        id_=ID, metric="drain", unit="jobs/s", ours=taken["ours"], beside=f"{default.label}, {default.settings}",
        theirs=taken["pgqueuer default"], conditions=shared,
    )  # fmt: skip
    yield judged(
        "≥ 0.25", id_=ID, metric="drain", unit="jobs/s", ours=taken["ours"], beside=LABEL, theirs=taken["raw"],
        conditions=f"{shared}; {limit.jobs} rows, 2 tables, one index, no tenants, leases or handlers",
    )  # fmt: skip
    yield reported(
        id_=ID, metric="processor time of the worker process a job", unit="µs", ours=spent["ours"],
        beside=found["pgqueuer"].label, theirs=spent["pgqueuer"], conditions=shared,
    )  # fmt: skip


def enqueues(found: Mapping[str, Side], rounds: int, shared: str) -> Row:
    """Enqueue-bound."""
    names = ["ours", *COMPARED]
    jobs = found["ours"].jobs
    figures = alternating(rounds, *(lambda side=found[name]: side.put(side.fresh(), jobs) for name in names))
    told = ", ".join(f"{found[name].label} {median(taken):.0f}" for name, taken in zip(names, figures, strict=True))
    return judged(
        "≥ 50000", id_=ID, metric="bulk enqueue", unit="jobs/s", ours=figures[0],
        beside=f"a limit; {told.partition(', ')[2]}", conditions=f"{shared}; {jobs} jobs, one process, 4 connections",
    )  # fmt: skip


def idle(found: Mapping[str, Side], rounds: int, scale: float, shared: str) -> Row:
    """Pick-up latency."""
    jobs = max(10, int(IDLE_JOBS * scale))
    watched = Watched("one", jobs, IDLE_WITHIN, (jobs,))
    ours, told = watched.compare([found[name] for name in ("ours", *COMPARED)], rounds)
    return judged(
        "≤ 20", id_=ID, metric="idle pick-up, put called to handler begun, p95", unit="ms", ours=ours,
        beside=f"a limit; {', '.join(told[1:])}",
        conditions=f"{shared}; {jobs} jobs 150–350 ms apart from another process; {told[0]}",
    )  # fmt: skip


def steady(found: Mapping[str, Side], rounds: int, scale: float, shared: str) -> Iterator[Row]:
    """Both at once."""
    seconds = max(2.0, STEADY_SECONDS * scale)
    for rate, names in STEADY.items():
        watched = Watched("produce", int(rate * seconds), seconds * 4, (rate, seconds))
        ours, told = watched.compare([found[name] for name in names], rounds)
        yield reported(
            id_=ID, metric=f"steady state at {rate} jobs/s, put called to handler begun, p95", unit="ms", ours=ours,
            beside=", ".join(told[1:]),
            conditions=f"{shared}; {seconds:g} s, a group each 20 ms from another process; {told[0]}",
        )  # fmt: skip


def run(rounds: int) -> Iterator[Row]:
    """Every figure of P3."""
    scale = 1.0 if rounds > 1 else 0.2
    made = peers()
    with serving() as server:
        found = sides(server, made, scale)
        shared = f"{server.conditions()}; no-op asynchronous handlers, one worker process, fresh database each time"
        yield from drains(found, server, rounds, scale, shared)
        yield enqueues(found, rounds, shared)
        yield idle(found, rounds, scale, shared)
        yield from steady(found, rounds, scale, shared)
        yield depth(found, rounds, scale, shared)
        yield tenants(found["ours"], rounds, scale, shared)
