"""What each kind of job calls. The lease's principal is the user whose transaction put the job."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from libs.clock import Clock
from libs.errors import AppError, Kind
from libs.jobqueue import Handler, Lease, Outcome, Snooze
from libs.principal import User
from services.files.domain.errors import KeysErased
from services.files.domain.job import (
    EraseFiles,
    ExpireUpload,
    RemoveFile,
    RemoveVersion,
    RenewKeys,
    RetireKey,
    RotateKey,
)
from services.files.ops.keys import Keys
from services.files.ops.remove import Remove

_AWAY = timedelta(seconds=30)


def handlers(remove: Remove, keys: Keys, *, now: Clock) -> Mapping[type[Any], Handler[Any]]:
    """The handler of each job type. While the object store is away jobs wait, and spend no attempt.

    What would change the keys of a user who has none any more is done.
    """

    async def expire_upload(job: ExpireUpload, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: remove.upload(_user(lease), job.version_id))

    async def remove_version(job: RemoveVersion, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: remove.version(_user(lease), job.version_id))

    async def remove_file(job: RemoveFile, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: remove.file(_user(lease), job.file_id))

    async def rotate_key(job: RotateKey, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: keys.rotate(_user(lease), job.key_id))

    async def retire_key(job: RetireKey, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: keys.retire(_user(lease), job.key_id))

    async def erase_files(job: EraseFiles, lease: Lease) -> Outcome | None:
        return await _patiently(now, lambda: keys.erase(_user(lease)))

    async def renew_keys(job: RenewKeys, lease: Lease) -> Outcome | None:
        return await _patiently(now, keys.renew)

    return {
        ExpireUpload: expire_upload,
        RemoveVersion: remove_version,
        RemoveFile: remove_file,
        RotateKey: rotate_key,
        RetireKey: retire_key,
        EraseFiles: erase_files,
        RenewKeys: renew_keys,
    }


async def _patiently(now: Clock, work: Callable[[], Awaitable[object]]) -> Outcome | None:
    try:
        await work()
    except KeysErased:
        return None
    except AppError as fault:
        if fault.kind is not Kind.UNAVAILABLE:
            raise
        return Snooze(now() + _AWAY)
    return None


def _user(lease: Lease) -> User:
    if not isinstance(lease.principal, User):
        raise TypeError("a job about a file belongs to a user")
    return lease.principal
