"""Jobs in Postgres: put in the caller's transaction, claimed with SKIP LOCKED, run at least once, finished under a
fence.

A job is a plain frozen dataclass; its type's name is the class name in snake_case; `queue`, `max_attempts` and
`timeout_seconds` may be ClassVars of it. Rows name whom a job works for by ids and never carry a token. Delivery is
at least once: a handler gets its Lease as the idempotency token, ends the job inside its own transaction with
`complete` (`in_transaction` opens one), or asks `first_time` whether an effect was had before. A long job saves its
`progress`, which its next attempt finds in the Lease. Calls to other services: libs.rpc.exchange.

    @dataclass(frozen=True, slots=True)
    class SendNote:
        note: str

    async with database.begin(who) as tx:  # the job exists if and only if this commits
        await put(tx, SendNote("n-1"), run_at=timedelta(minutes=5), unique="n-1")

    async def send(job: SendNote, lease: Lease) -> Retry | None:  # None: done
        ...

    worker = Worker(database, "files", {SendNote: send})  # a part of the process, see libs.process

A service puts jobs for itself alone, and there is no queue for anybody outside of it.

What comes by the clock is a `Timetable` of `Periodic` jobs, a part of each replica beside its Worker: by the database's
clock, without a leader, never twice.

Where a job is: jobs.jobs holds each unfinished job with its state and lease, and nothing else does. jobs.ready holds
its place in line while it may be claimed, jobs.lanes which tenants have such places. What is finished moves to
jobs.history, by day. What memory holds (marks, cursor, runs) is a hint, or the fence checks it when it is written.

Who does what: enqueue puts, claim takes, run calls the handler, settler writes how it ended (completion), heart beats
and takes back what overran, rescue looks after dead workers, lanes after what hints have missed. worker joins them.
"""

from libs.jobqueue.completion import StaleLease, complete
from libs.jobqueue.enqueue import put, put_many
from libs.jobqueue.headway import progress
from libs.jobqueue.inbox import first_time
from libs.jobqueue.job import Cancelled, Completed, Discard, Done, Handler, JobInvalid, Lease, Outcome, Retry, Snooze
from libs.jobqueue.periodic import Periodic, Timetable
from libs.jobqueue.transactional import in_transaction
from libs.jobqueue.worker import Timing, Worker

__all__ = [
    "Cancelled",
    "Completed",
    "Discard",
    "Done",
    "Handler",
    "JobInvalid",
    "Lease",
    "Outcome",
    "Periodic",
    "Retry",
    "Snooze",
    "StaleLease",
    "Timetable",
    "Timing",
    "Worker",
    "complete",
    "first_time",
    "in_transaction",
    "progress",
    "put",
    "put_many",
]
