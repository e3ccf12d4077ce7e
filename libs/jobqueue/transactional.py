"""Handlers whose work is in the database: their writes and the end of their job are one transaction."""

from collections.abc import Awaitable, Callable

from libs.db import Database, Tx
from libs.jobqueue.completion import complete
from libs.jobqueue.job import Completed, Done, Handler, JobT, Lease, Outcome

TxHandler = Callable[[Tx, JobT, Lease], Awaitable[Outcome | None]]


def in_transaction(database: Database, handler: TxHandler[JobT]) -> Handler[JobT]:
    """A handler that calls *handler* in a transaction armed for whom the job works for, and finishes the job in it: all
    of it is there at once, or nothing.

    Any other answer than Done or None, and any error, rolls the writes back: Retry, Snooze, Discard and Cancelled say
    that the work was not done. When the transaction meets another one, *handler* is called again, in a new one. For
    work within the database; whoever waits for something else meanwhile opens a transaction of their own when it is
    there.
    """

    async def handle(job: JobT, lease: Lease) -> Outcome | None:
        async def attempt() -> Outcome | None:
            async with database.begin(lease.principal) as tx:
                outcome = await handler(tx, job, lease)
                if outcome is None or isinstance(outcome, Done):
                    return await complete(tx, lease)
                if isinstance(outcome, Completed):
                    return outcome
                raise _Undone(outcome)

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
