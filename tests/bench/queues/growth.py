"""Throughput of a drain against what a queue may grow in: the jobs that wait, and the tenants they belong to."""

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.picture import Points, chart, short
from tests.bench.queues.side import Side
from tests.bench.row import Row, reported

ID = "P3"
DEPTHS = (1_000, 10_000, 100_000, 1_000_000)
TENANTS = (1, 10, 100, 1_000, 10_000)
TENANT_JOBS = 50_000
SECONDS = 6.0
"""A drain ends after that, whatever is left."""
MOST_ROUNDS = 3


def pace(side: Side, jobs: int, **environment: str) -> float:
    """Jobs a second from the first one begun, for some seconds, with *jobs* waiting at first."""
    database = side.fresh()
    side.put(database, jobs, **environment)
    answer = side.drain(database, jobs, SECONDS, **environment)
    return float(answer["handled"]) / (float(answer["seconds"]) - float(answer["first"]))


def depth(found: Mapping[str, Side], rounds: int, scale: float, shared: str) -> Row:
    """Against the number of jobs that wait."""
    names = ("ours", "pgqueuer")
    depths = [each for each in DEPTHS if each <= DEPTHS[-1] * scale]
    times = min(rounds, MOST_ROUNDS)
    curves = {
        found[name].label: [(each, median(pace(found[name], each) for _ in range(times))) for each in depths]
        for name in names
    }
    return reported(
        id_=ID, metric="growth: drain against jobs waiting", unit="jobs/s", ours=[curves[found["ours"].label][-1][1]],
        beside=f"{found['pgqueuer'].label}, {depths[-1]} jobs waiting", theirs=[curves[found["pgqueuer"].label][-1][1]],
        conditions=f"{shared}; {told(curves)}; medians of {times}",
        picture=("p3-depth.svg", chart("Drain against queue depth", "jobs waiting", "jobs/s", curves)),
    )  # fmt: skip


def tenants(ours: Side, rounds: int, scale: float, shared: str) -> Row:
    """Against the number of tenants."""
    times, jobs = min(rounds, MOST_ROUNDS), int(TENANT_JOBS * scale)
    numbers = [each for each in TENANTS if each <= TENANTS[-1] * scale]
    points = [(each, median(pace(ours, jobs, BENCH_TENANTS=str(each)) for _ in range(times))) for each in numbers]
    curves: dict[str, Points] = {ours.label: points}
    return reported(
        id_=ID, metric="growth: drain against tenants", unit="jobs/s", ours=[points[-1][1]],
        beside=f"itself with {numbers[0]} tenant", theirs=[points[0][1]],
        conditions=f"{shared}; {jobs} jobs; {told(curves)}; medians of {times}",
        picture=("p3-tenants.svg", chart("Drain against tenants", "tenants with work", "jobs/s", curves)),
    )  # fmt: skip


def told(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The figures of the curves in words."""
    return "; ".join(
        f"{name}: " + ", ".join(f"{short(x)} {y:.0f}" for x, y in points) for name, points in curves.items()
    )
