"""What each kind of job calls. The lease's principal is the user whose transaction put the job."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from libs.clock import Clock
from libs.errors import AppError, Kind
from libs.jobqueue import Handler, Lease, Outcome, Snooze
from libs.principal import User
from services.files.domain.job import ExpireUpload, RemoveFile, RemoveVersion
from services.files.ops.remove import Remove

_AWAY = timedelta(seconds=30)


def handlers(remove: Remove, *, now: Clock) -> Mapping[type[Any], Handler[Any]]:
    """The handler of each job type. While the object store is away jobs wait, and spend no attempt."""

    async def expire_upload(job: ExpireUpload, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: remove.upload(_user(lease), job.version_id))

    async def remove_version(job: RemoveVersion, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: remove.version(_user(lease), job.version_id))

    async def remove_file(job: RemoveFile, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: remove.file(_user(lease), job.file_id))

    return {ExpireUpload: expire_upload, RemoveVersion: remove_version, RemoveFile: remove_file}


async def _patiently(now: Clock, work: Callable[[], Awaitable[None]]) -> Outcome | None:
    try:
        await work()
    except AppError as fault:
        if fault.kind is not Kind.UNAVAILABLE:
            raise
        return Snooze(now() + _AWAY)
    return None


def _user(lease: Lease) -> User:
    if not isinstance(lease.principal, User):
        raise TypeError("a job about a file belongs to a user")
    return lease.principal
