"""Deleting a file: a tombstone now, the bytes when the recovery window has passed."""

from datetime import timedelta

from libs import audit, eventlog, idempotency, jobqueue
from libs.principal import User
from services.files.domain import file as decide
from services.files.domain.job import RemoveFile
from services.files.ops.event import facts
from services.files.ops.upload import Begin
from services.files.store import files


class Delete:
    """The verb. recovery: how long the bytes are kept."""

    def __init__(self, begin: Begin, *, recovery: timedelta) -> None:
        self._begin, self._recovery = begin, recovery

    async def __call__(self, who: User, file_id: str, *, if_match: str = "", request_id: str = "") -> None:
        """Make the file a tombstone; its path is free at once.

        request_id: "" for none; a repeat within 24 hours changes nothing more. Raises FileNotFound, EtagMismatch,
        RequestIdReused.
        """
        async with self._begin(who) as tx:
            if await idempotency.claim(tx, "DeleteFile", request_id, file_id, if_match) is not None:
                return
            gone = decide.delete(await files.lock(tx, file_id), if_match=if_match, now=tx.now())
            await files.save(tx, gone)
            await jobqueue.put(tx, RemoveFile(gone.id), run_at=tx.now() + self._recovery)
            await audit.record(tx, "file.deleted", file=gone.id, generation=str(gone.generation))
            await eventlog.append(
                tx, organization_id=who.organization_id, user_id=who.user_id, type="file.deleted", data=facts(gone)
            )
