"""Handlers whose work is in the database: their writes and the end of their job are one transaction."""

from collections.abc import Awaitable, Callable

from libs.db import Database, Tx
from libs.jobqueue.audited import Trail
from libs.jobqueue.completion import Told, complete
from libs.jobqueue.job import Cancelled, Completed, Discard, Handler, JobT, Lease, Outcome, Retry, Snooze, checked, kind

TxHandler = Callable[[Tx, JobT, Lease], Awaitable[Outcome | None]]


def in_transaction(database: Database, handler: TxHandler[JobT]) -> Handler[JobT]:
    """A handler that calls *handler* in a transaction armed for whom the job works for, and finishes the job in it: all
    of it is there at once, or nothing.

    Retry, Snooze, Discard and Cancelled, and any error, roll the writes back: they say that the work was not done. Any
    other answer says that it was, as it does outside of a transaction. When the transaction meets another one,
    *handler* is called again, in a new one. For work within the database; whoever waits for something else meanwhile
    opens a transaction of their own when it is there.
    """

    async def handle(job: JobT, lease: Lease) -> Outcome | None:
        async def attempt() -> Outcome | None:
            async with database.begin(lease.principal) as tx:
                outcome = await handler(tx, job, lease)
                checked(outcome)
                if isinstance(outcome, Retry | Snooze | Discard | Cancelled):
                    raise _Undone(outcome)
                if isinstance(outcome, Completed):
                    return outcome
                done = await complete(tx, lease)
                what = kind(type(job))
                if what.audited:
                    told = [Told(lease, what.name, "done")]
                    await Trail([what.name]).ended(tx, told, {(lease.job_id, lease.lease): "finished"})
                return done

        try:
            return await database.retry(attempt)
        except _Undone as undone:
            return undone.outcome

    return handle


class _Undone(Exception):
    """Rolls back and carries the answer out."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome
