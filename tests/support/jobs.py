"""The operator's desk: JobService on the real rows of a test database, reached over the real operator socket."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from holdfast.jobs.v1 import job_service_pb2 as pb
from holdfast.jobs.v1 import job_service_pb2_grpc as grpc_pb
from libs import page
from libs.observability.metric import Metrics
from libs.process import Part
from libs.rpc.health import Health
from libs.rpc.operator import Front, operators
from libs.rpc.server import Server
from services.backup.ops.guard import Guard
from services.backup.ops.jobs import Jobs
from services.backup.rpc.jobs import JobServicer
from tests.support.postgres import TestDatabase
from tests.support.wire import told

IN_AN_HOUR = timedelta(hours=1)
_KEY = b"pages-of-the-tests-are-sealed-with-this-key"


@dataclass(slots=True)
class Desk:
    """jobs, guard: the operations behind the service. socket: for the command line."""

    stub: Any
    jobs: Jobs
    guard: Guard
    socket: Path

    async def list(self, state: str = "", **fields: Any) -> list[pb.Job]:
        """Every job of *state*, page after page."""
        found: list[pb.Job] = []
        asked = pb.ListJobsRequest(filter=filtered(state, **fields), page_size=2)
        while True:
            answer = await told(self.stub.ListJobs(asked, timeout=20))
            found += answer.jobs
            asked.page_token = answer.next_page_token
            if not asked.page_token:
                return found

    async def get(self, job: str, *, payload: bool = False) -> pb.Job:
        """One job."""
        asked = pb.GetJobRequest(name=f"jobs/{job}", include_payload=payload)
        answer: pb.GetJobResponse = await told(self.stub.GetJob(asked, timeout=20))
        return answer.job

    async def retry(self, job: str) -> pb.Job:
        """A job, ready again."""
        answer: pb.RetryJobResponse = await told(self.stub.RetryJob(pb.RetryJobRequest(name=f"jobs/{job}"), timeout=20))
        return answer.job

    async def cancel(self, job: str) -> pb.Job:
        """A job, ended or asked to."""
        answer: pb.CancelJobResponse = await told(
            self.stub.CancelJob(pb.CancelJobRequest(name=f"jobs/{job}"), timeout=20)
        )
        return answer.job

    async def queues(self) -> dict[str, pb.Queue]:
        """Every queue by its name."""
        answer = await told(self.stub.ListQueues(pb.ListQueuesRequest(), timeout=20))
        return {one.name: one for one in answer.queues}


def filtered(state: str = "", **fields: Any) -> pb.JobFilter:
    """A filter; state as a person writes it."""
    return pb.JobFilter(state=pb.JobState.Value(f"JOB_STATE_{(state or 'unspecified').upper()}"), **fields)


@asynccontextmanager
async def desk(database: TestDatabase) -> AsyncIterator[Desk]:
    """The service, as this process's own user reaches it."""
    db = database.connect("backup")
    jobs, guard = Jobs(db), Guard(db)
    servicer = JobServicer(jobs, guard, page.Tokens(_KEY))
    service = pb.DESCRIPTOR.services_by_name["JobService"]
    served = [(grpc_pb.add_JobServiceServicer_to_server, servicer, service)]

    def inner(address: str, operator: str) -> Part:
        return Server(
            address, served, service="backup", verifier=None, operator=operator, health=Health(), metrics=Metrics()
        )

    with tempfile.TemporaryDirectory(prefix="hfj-", dir="/tmp") as folder:
        path = Path(folder) / "operator" / "operator.sock"
        front = Front(path, inner, uids=operators())
        await front.start()
        try:
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
                yield Desk(grpc_pb.JobServiceStub(channel), jobs, guard, path)
        finally:
            await front.drain(1)
            await front.stop()
            await db.stop()
