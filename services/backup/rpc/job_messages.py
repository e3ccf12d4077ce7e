"""Domain values as messages of holdfast.jobs.v1."""

from holdfast.jobs.v1 import job_service_pb2 as pb
from libs import names
from services.backup.domain.job import Filter, Guard, Job, Queue
from services.backup.rpc.messages import timestamp

_STATES = {pb.JobState.Name(value).removeprefix("JOB_STATE_").lower(): value for value in pb.JobState.values()}
_GUARD = {"open": pb.GUARD_STATE_OPEN, "held": pb.GUARD_STATE_HELD}


def wanted(value: pb.JobFilter) -> Filter:
    """The filter of the message."""
    state = {number: word for word, number in _STATES.items()}[value.state] if value.state else ""
    return Filter(value.service, value.queue, value.type, state)


def job(value: Job) -> pb.Job:
    """The message of *value*."""
    return pb.Job(
        name=names.JOB.format(job=value.id),
        service=value.service,
        queue=value.queue,
        type=value.type,
        state=_STATES[value.state],
        owner=_owner(value),
        priority=value.priority,
        unique_key=value.unique_key,
        failures=value.failures,
        max_attempts=value.max_attempts,
        crashes=value.crashes,
        lease=value.lease,
        worker=value.worker_id,
        error=value.error,
        create_time=timestamp(value.created_at),
        run_time=timestamp(value.run_at),
        claim_time=timestamp(value.claimed_at),
        deadline_time=timestamp(value.deadline_at),
        end_time=timestamp(value.finished_at),
        cancel_time=timestamp(value.cancelled_at),
        payload=value.payload,
        progress=value.progress,
    )


def queue(value: Queue) -> pb.Queue:
    """The message of *value*."""
    return pb.Queue(
        name=names.QUEUE.format(service=value.service, queue=value.queue),
        ready_jobs=value.ready,
        running_jobs=value.running,
        scheduled_jobs=value.scheduled,
        dead_jobs=value.dead,
        oldest_ready_seconds=value.oldest_ready_seconds,
        workers=value.workers,
        pause_time=timestamp(value.paused_at),
        paused_by=value.paused_by,
        pause_reason=value.reason,
    )


def guard(value: Guard) -> pb.Guard:
    """The message of *value*."""
    return pb.Guard(
        state=_GUARD[value.state],
        timeline=value.timeline,
        database_timeline=value.database_timeline,
        jobs_may_run=value.may_run,
        reason=value.reason,
        change_time=timestamp(value.changed_at),
        changed_by=value.changed_by,
        quarantined_jobs=value.quarantined,
    )


def _owner(value: Job) -> str:
    if value.user_id:
        return names.USER.format(organization=value.organization_id, user=value.user_id)
    return names.ORGANIZATION.format(organization=value.organization_id) if value.organization_id else ""
