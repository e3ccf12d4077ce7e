"""holdfast.jobs.v1.JobService."""

from holdfast.jobs.v1 import job_service_pb2 as pb
from holdfast.jobs.v1 import job_service_pb2_grpc as grpc_pb
from libs import names, page
from libs.rpc.server import Context, principal
from services.backup.ops.guard import Guard
from services.backup.ops.jobs import Jobs
from services.backup.rpc import job_messages as messages
from services.backup.rpc.messages import moment, timestamp


class JobServicer(grpc_pb.JobServiceServicer):
    """Jobs, queues and the guard of every service, for operators."""

    def __init__(self, jobs: Jobs, guard: Guard, tokens: page.Tokens) -> None:
        self._jobs, self._guard, self._tokens = jobs, guard, tokens

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """A page of jobs."""
        wanted = messages.wanted(request.filter)
        bound = {"list": "jobs", "filter": request.filter.SerializeToString(deterministic=True).hex()}
        position = self._tokens.open(request.page_token, **bound)
        after = (str(position[0]), str(position[1])) if position else None
        found = await self._jobs.find(wanted, after, page.size(request.page_size))
        more = self._tokens.seal(found.after, **bound) if found.after else ""
        return pb.ListJobsResponse(jobs=[messages.job(one) for one in found.jobs], next_page_token=more)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """One job."""
        found = await self._jobs.get(principal(context), _id(request.name), payload=request.include_payload)
        return pb.GetJobResponse(job=messages.job(found))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        """A job, ready again."""
        return pb.RetryJobResponse(job=messages.job(await self._jobs.retry(principal(context), _id(request.name))))

    async def BulkRetryJobs(self, request: pb.BulkRetryJobsRequest, context: Context) -> pb.BulkRetryJobsResponse:
        """Many jobs, ready again."""
        before = moment(request.before_time, "before_time") if request.HasField("before_time") else None
        done = await self._jobs.retry_many(principal(context), messages.wanted(request.filter), before=before)
        return pb.BulkRetryJobsResponse(
            retried_jobs=done.retried, skipped_jobs=done.skipped, more=done.more, before_time=timestamp(done.before)
        )

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """A job, ended or asked to end."""
        return pb.CancelJobResponse(job=messages.job(await self._jobs.cancel(principal(context), _id(request.name))))

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Context) -> pb.ListQueuesResponse:
        """A page of queues."""
        position, size = self._tokens.open(request.page_token, list="queues"), page.size(request.page_size)
        found = [one for one in await self._jobs.queues() if not position or (one.service, one.queue) > position]
        last = found[size - 1] if len(found) > size else None
        more = self._tokens.seal((last.service, last.queue), list="queues") if last else ""
        return pb.ListQueuesResponse(queues=[messages.queue(one) for one in found[:size]], next_page_token=more)

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: Context) -> pb.PauseQueueResponse:
        """A queue, paused."""
        which = names.QUEUE.parse(request.name)
        paused = await self._jobs.pause(principal(context), which["service"], which["queue"], request.reason)
        return pb.PauseQueueResponse(queue=messages.queue(paused))

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: Context) -> pb.ResumeQueueResponse:
        """A queue, going on."""
        which = names.QUEUE.parse(request.name)
        resumed = await self._jobs.resume(principal(context), which["service"], which["queue"])
        return pb.ResumeQueueResponse(queue=messages.queue(resumed))

    async def GetGuard(self, request: pb.GetGuardRequest, context: Context) -> pb.GetGuardResponse:
        """The guard."""
        return pb.GetGuardResponse(guard=messages.guard(await self._guard.told()))

    async def ReleaseGuard(self, request: pb.ReleaseGuardRequest, context: Context) -> pb.ReleaseGuardResponse:
        """The guard, open."""
        discard = request.action == pb.RELEASE_ACTION_DISCARD
        done = await self._guard.release(principal(context), discard=discard)
        return pb.ReleaseGuardResponse(
            guard=messages.guard(await self._guard.told()),
            requeued_jobs=done.requeued,
            discarded_jobs=done.discarded,
            dead_jobs=done.dead,
        )


def _id(name: str) -> str:
    return names.JOB.parse(name)["job"]
