"""Jobs, queues and the guard for people."""

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from holdfast.cli.show import moment
from holdfast.jobs.v1 import job_service_pb2 as pb

_CAP = 10_000


def word(state: "pb.JobState.ValueType") -> str:
    """A state for a person, e.g. "dead"."""
    return pb.JobState.Name(state).removeprefix("JOB_STATE_").lower()


def count(number: int, noun: str) -> str:
    """E.g. "1 job", "2 jobs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def jobs(found: list[pb.Job]) -> Table:
    """A table of jobs; the time is the one that matters in their state."""
    name = Column("job", no_wrap=True, overflow="fold")
    table = Table(name, "service", "queue", "type", "state", "when (UTC)", "failed", "error", box=None, pad_edge=False)
    for one in found:
        failed = f"{one.failures}/{one.max_attempts}" if one.max_attempts else str(one.failures)
        where = (one.service, one.queue, one.type, word(one.state))
        table.add_row(one.name.removeprefix("jobs/"), *where, moment(_when(one)), failed, Text(one.error))
    return table


def job(one: pb.Job) -> RenderableType:
    """One job, a line for each thing that is known of it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, value in _lines(one):
        if value:
            table.add_row(f"  {label}", Text(value))
    return Group(Text(f"{one.name}: {one.type} of {one.service}, {word(one.state)}"), table)


def queues(found: list[pb.Queue]) -> Table:
    """A table of queues."""
    columns = ("service", "queue", "ready", "running", "scheduled", "dead", "oldest ready", "workers", "paused")
    table = Table(*columns, box=None, pad_edge=False)
    for one in found:
        _, service, _, queue = one.name.split("/")
        counts = (one.ready_jobs, one.running_jobs, one.scheduled_jobs, one.dead_jobs)
        oldest = f"{one.oldest_ready_seconds:.0f} s" if one.HasField("oldest_ready_seconds") else "-"
        table.add_row(service, queue, *map(_capped, counts), oldest, str(one.workers), Text(_paused(one)))
    return table


def guard(one: pb.Guard) -> list[str]:
    """Whether jobs may run, and why not."""
    lines = ["jobs may run" if one.jobs_may_run else "NO JOB RUNS: this database may be a restored one"]
    state = "held" if one.state == pb.GUARD_STATE_HELD else "open"
    lines.append(f"guard {state} since {moment(one.change_time)}" + (f" by {one.changed_by}" if one.changed_by else ""))
    if one.reason:
        lines.append(f"because: {one.reason}")
    lines.append(f"timeline {one.database_timeline}, jobs belong to timeline {one.timeline}")
    if one.quarantined_jobs:
        lines.append(f"quarantined jobs: {_capped(one.quarantined_jobs)}")
    return lines


def _when(one: pb.Job) -> Timestamp:
    times = {
        pb.JOB_STATE_SCHEDULED: one.run_time,
        pb.JOB_STATE_READY: one.run_time,
        pb.JOB_STATE_RUNNING: one.claim_time,
    }
    return times.get(one.state, one.end_time)


def _lines(one: pb.Job) -> list[tuple[str, str]]:
    attempts = f"{one.failures} failed" + (f" of {one.max_attempts}" if one.max_attempts else "")
    times = {
        "put": one.create_time,
        "due": one.run_time,
        "claimed": one.claim_time,
        "deadline": one.deadline_time,
        "ended": one.end_time,
        "end asked": one.cancel_time,
    }
    return [
        ("for", one.owner or "the service itself"),
        ("queue", one.queue + (f", priority {one.priority}" if one.priority else "")),
        ("key", one.unique_key),
        ("attempts", attempts + (f", {one.crashes} crashed" if one.crashes else "")),
        ("worker", one.worker),
        ("error", one.error),
        *((label, moment(at)) for label, at in times.items() if at.ByteSize()),
        ("payload", one.payload),
        ("progress", one.progress),
    ]


def _capped(number: int) -> str:
    return f"{_CAP}+" if number >= _CAP else str(number)


def _paused(one: pb.Queue) -> str:
    if not one.HasField("pause_time"):
        return ""
    return f"since {moment(one.pause_time)} by {one.paused_by}" + (f": {one.pause_reason}" if one.pause_reason else "")
