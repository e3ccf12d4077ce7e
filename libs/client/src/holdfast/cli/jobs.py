"""`holdfast jobs list|dead|show|retry|cancel|queues|pause|resume|guard|release`."""

from collections.abc import Callable
from typing import Any

import click

from holdfast.cli import job_show as showing
from holdfast.cli.job_queues import sure, verbs, yes_option
from holdfast.cli.operator import (
    CALL_SECONDS,
    Verbs,
    connected,
    console,
    json_option,
    print_json,
    socket_option,
)
from holdfast.cli.run import say
from holdfast.jobs.v1 import job_service_pb2 as pb
from holdfast.jobs.v1.job_service_pb2_grpc import JobServiceStub

_STATES = [pb.JobState.Name(value).removeprefix("JOB_STATE_").lower() for value in pb.JobState.values()[1:]]

_service = click.option("--service", default="", metavar="NAME", help="Only jobs of this service, e.g. files.")
_queue = click.option("--queue", default="", metavar="NAME", help="Only jobs of this queue.")
_type = click.option("--type", "type_", default="", metavar="NAME", help="Only jobs of this type, e.g. expire_upload.")
_limit = click.option("--limit", default=50, type=click.IntRange(1, 100_000), help="So many at most (default: 50).")


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (_type, _queue, _service):
        command = option(command)
    return command


@click.group(cls=Verbs)
def jobs() -> None:
    """See the services' background jobs and steer them, through the local operator socket."""


for _verb in verbs:
    jobs.add_command(_verb)


@jobs.command()
@click.option("--state", default="", type=click.Choice(["", *_STATES]), help="Default: all that are not finished.")
@_filters
@_limit
@json_option
@socket_option
def list(state: str, service: str, queue: str, type_: str, limit: int, as_json: bool, path: str) -> None:
    """Jobs: scheduled ones soonest first, running ones longest first, all others newest first."""
    found = _find(path, _filter(state, service, queue, type_), limit)
    _answer(found, as_json, f"There is no {state or 'unfinished'} job{_of(service, queue, type_)}.")


@jobs.command()
@_filters
@_limit
@json_option
@socket_option
def dead(service: str, queue: str, type_: str, limit: int, as_json: bool, path: str) -> None:
    """Dead letters: jobs that were given up and wait for somebody to look, newest first."""
    found = _find(path, _filter("dead", service, queue, type_), limit)
    _answer(found, as_json, f"There is no dead letter{_of(service, queue, type_)}.")
    if found.jobs and not as_json:
        say("One again: `holdfast jobs retry ID`; all of a kind: `holdfast jobs retry --state dead --type TYPE`.")
        say("Give one up: `holdfast jobs cancel ID`.")


@jobs.command()
@click.argument("job")
@click.option(
    "--payload", is_flag=True, help="With its fields and progress, which may hold what a user wrote: audited."
)
@json_option
@socket_option
def show(job: str, payload: bool, as_json: bool, path: str) -> None:
    """One job, also a finished one while its history is kept."""
    with connected(path) as channel:
        asked = pb.GetJobRequest(name=_named(job), include_payload=payload)
        found = JobServiceStub(channel).GetJob(asked, timeout=CALL_SECONDS).job
    _show(found, as_json)


@jobs.command()
@click.argument("job", default="")
@click.option("--state", type=click.Choice(["dead", "scheduled"]), help="Many at once: all of this state.")
@_filters
@yes_option
@json_option
@socket_option
def retry(
    job: str, state: str | None, service: str, queue: str, type_: str, yes: bool, as_json: bool, path: str
) -> None:
    """Run a dead or scheduled job now, its attempts counted from zero; or many, with --state."""
    if bool(job) == bool(state) or (job and (service or queue or type_)):
        raise click.UsageError("Name one job, or say --state and what else they have in common.")
    if state:
        sure(yes, f"Run every {state} job{_of(service, queue, type_)} now?")
    with connected(path) as channel:
        stub = JobServiceStub(channel)
        if state:
            done = _retry_all(stub, _filter(state, service, queue, type_))
        else:
            asked = pb.RetryJobRequest(name=_named(job))
            found = stub.RetryJob(asked, timeout=CALL_SECONDS).job
    if not state:
        _show(found, as_json)
    elif as_json:
        print_json(done)
    else:
        console.print(f"{showing.count(done.retried_jobs, 'job')} ready now.")
        if done.skipped_jobs:
            say(f"{done.skipped_jobs} left as they were: another unfinished job has their unique key.")


@jobs.command()
@click.argument("job")
@json_option
@socket_option
def cancel(job: str, as_json: bool, path: str) -> None:
    """End a job that does not run at once; have the worker of a running one stop it."""
    with connected(path) as channel:
        found = JobServiceStub(channel).CancelJob(pb.CancelJobRequest(name=_named(job)), timeout=CALL_SECONDS).job
    _show(found, as_json)
    if found.state == pb.JOB_STATE_RUNNING and not as_json:
        say(f"Its worker is asked to stop it; look with `holdfast jobs show {found.name}`.")


def _find(path: str, wanted: pb.JobFilter, limit: int) -> pb.ListJobsResponse:
    found = pb.ListJobsResponse()
    asked = pb.ListJobsRequest(filter=wanted)
    with connected(path) as channel:
        stub = JobServiceStub(channel)
        while True:
            asked.page_size = min(1000, limit - len(found.jobs))
            page = stub.ListJobs(asked, timeout=CALL_SECONDS)
            found.jobs.extend(page.jobs)
            found.next_page_token = asked.page_token = page.next_page_token
            if len(found.jobs) >= limit or not asked.page_token:
                return found


def _retry_all(stub: JobServiceStub, wanted: pb.JobFilter) -> pb.BulkRetryJobsResponse:
    total = pb.BulkRetryJobsResponse()
    asked = pb.BulkRetryJobsRequest(filter=wanted)
    while True:
        done = stub.BulkRetryJobs(asked, timeout=CALL_SECONDS)
        asked.before_time.CopyFrom(done.before_time)
        total.before_time.CopyFrom(done.before_time)
        total.retried_jobs += done.retried_jobs
        total.skipped_jobs += done.skipped_jobs
        # A call that only met jobs whose key is taken would meet them again.
        if not done.more or not done.retried_jobs:
            return total


def _answer(found: pb.ListJobsResponse, as_json: bool, nothing: str) -> None:
    if as_json:
        print_json(found)
    else:
        console.print(showing.jobs([*found.jobs]) if found.jobs else nothing)
    if found.next_page_token:
        say(f"There are more than these {len(found.jobs)}: --limit says how many to show.")


def _show(found: pb.Job, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console.print(showing.job(found))


def _filter(state: str, service: str, queue: str, type_: str) -> pb.JobFilter:
    number = pb.JobState.Value(f"JOB_STATE_{(state or 'unspecified').upper()}")
    return pb.JobFilter(state=number, service=service, queue=queue, type=type_)


def _of(service: str, queue: str, type_: str) -> str:
    told = {"service": service, "queue": queue, "type": type_}
    return "".join(f", {name} {value}" for name, value in told.items() if value)


def _named(job: str) -> str:
    return job if job.startswith("jobs/") else f"jobs/{job}"
