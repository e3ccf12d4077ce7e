"""Jobs in Postgres: put in the caller's transaction, claimed with SKIP LOCKED, run at least once, finished under a
fence.

A job is a plain frozen dataclass; its type's name is the class name in snake_case; `max_attempts` and
`timeout_seconds` may be ClassVars of it. Rows name whom a job works for by ids and never carry a token. Delivery is
at least once: a handler gets its Lease as the idempotency token, or ends the job inside its own transaction with
`complete`.
"""

from libs.jobqueue.completion import StaleLease, complete
from libs.jobqueue.enqueue import put, put_many
from libs.jobqueue.job import Cancelled, Completed, Discard, Done, Handler, JobInvalid, Lease, Outcome, Retry, Snooze
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
    "Retry",
    "Snooze",
    "StaleLease",
    "Timing",
    "Worker",
    "complete",
    "put",
    "put_many",
]
