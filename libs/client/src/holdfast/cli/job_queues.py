"""`holdfast jobs queues|pause|resume|guard|release`."""

import sys

import click

from holdfast.cli import job_show as showing
from holdfast.cli.operator import (
    CALL_SECONDS,
    ENDED_BADLY,
    Verb,
    connected,
    console,
    json_option,
    print_json,
    socket_option,
)
from holdfast.cli.run import say
from holdfast.jobs.v1 import job_service_pb2 as pb
from holdfast.jobs.v1.job_service_pb2_grpc import JobServiceStub

_BULK_SECONDS = 600.0
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def sure(yes: bool, question: str) -> None:
    """Ask a person at a terminal unless they said --yes; end the program when they do not want to."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to be asked: say --yes.")
    click.confirm(question, abort=True, err=True)


@click.command(cls=Verb)
@json_option
@socket_option
def queues(as_json: bool, path: str) -> None:
    """Every queue: how much waits, for how long, who works on it, whether it is paused."""
    found: list[pb.Queue] = []
    with connected(path) as channel:
        asked = pb.ListQueuesRequest(page_size=1000)
        while True:
            page = JobServiceStub(channel).ListQueues(asked, timeout=CALL_SECONDS)
            found += page.queues
            asked.page_token = page.next_page_token
            if not asked.page_token:
                break
    if as_json:
        print_json(pb.ListQueuesResponse(queues=found))
    else:
        console.print(showing.queues(found) if found else "No queue has a job, a worker or a pause.")


@click.command(cls=Verb)
@click.argument("service")
@click.argument("queue", default="default")
@click.option("--reason", default="", metavar="WORDS", help="Why, for whoever wonders later.")
@json_option
@socket_option
def pause(service: str, queue: str, reason: str, as_json: bool, path: str) -> None:
    """Let no further job of SERVICE's QUEUE (default: default) begin; running ones go on."""
    with connected(path) as channel:
        asked = pb.PauseQueueRequest(name=_name(service, queue), reason=reason)
        found = JobServiceStub(channel).PauseQueue(asked, timeout=CALL_SECONDS).queue
    _show(found, as_json)
    if not as_json:
        say(f"Nothing of it begins until `holdfast jobs resume {service} {queue}`.")
        if not found.workers:
            say("No worker serves a queue of that name now; is it spelled right?")


@click.command(cls=Verb)
@click.argument("service")
@click.argument("queue", default="default")
@json_option
@socket_option
def resume(service: str, queue: str, as_json: bool, path: str) -> None:
    """Let jobs of SERVICE's QUEUE (default: default) begin again."""
    with connected(path) as channel:
        asked = pb.ResumeQueueRequest(name=_name(service, queue))
        found = JobServiceStub(channel).ResumeQueue(asked, timeout=CALL_SECONDS).queue
    _show(found, as_json)


@click.command(cls=Verb)
@json_option
@socket_option
def guard(as_json: bool, path: str) -> None:
    """Whether jobs may run in this database; exit code 1 when they may not."""
    with connected(path) as channel:
        found = JobServiceStub(channel).GetGuard(pb.GetGuardRequest(), timeout=CALL_SECONDS).guard
    if as_json:
        print_json(found)
    else:
        for line in showing.guard(found):
            console.print(line, markup=False)
    if not found.jobs_may_run:
        if not as_json:
            say("Look at `holdfast jobs list --state quarantined`. `holdfast jobs release --requeue` runs those jobs,")
            say("perhaps a second time; `holdfast jobs release --discard` gives them up.")
        sys.exit(ENDED_BADLY)


@click.command(cls=Verb)
@click.option("--requeue", "action", flag_value="requeue", help="Quarantined jobs run, or wait for their time again.")
@click.option("--discard", "action", flag_value="discard", help="Quarantined jobs end as cancelled.")
@yes_option
@json_option
@socket_option
def release(action: str | None, yes: bool, as_json: bool, path: str) -> None:
    """Let jobs run in a restored database."""
    if action is None:
        raise click.UsageError("Say what becomes of quarantined jobs: --requeue or --discard.")
    verb = {"requeue": "run again", "discard": "are given up for good"}[action]
    sure(yes, f"Jobs of every service begin again, and the quarantined ones {verb}. Go on?")
    with connected(path) as channel:
        asked = pb.ReleaseGuardRequest(action=pb.ReleaseAction.Value(f"RELEASE_ACTION_{action.upper()}"))
        done = JobServiceStub(channel).ReleaseGuard(asked, timeout=_BULK_SECONDS)
    if as_json:
        print_json(done)
        return
    told = [f"{showing.count(done.requeued_jobs, 'job')} put back", f"{done.discarded_jobs} given up"]
    console.print(f"Jobs run on timeline {done.guard.timeline}: {', '.join(told)}.")
    if done.dead_jobs:
        say(f"{done.dead_jobs} became dead letters, because a newer job has their unique key: `holdfast jobs dead`.")


def _name(service: str, queue: str) -> str:
    return f"services/{service}/queues/{queue}"


def _show(found: pb.Queue, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console.print(showing.queues([found]))


verbs = (queues, pause, resume, guard, release)
"""Commands of `holdfast jobs`."""
