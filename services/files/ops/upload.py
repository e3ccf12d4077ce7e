"""Storing a file: its key → pending row and its expiry job → sealed bytes → one committing transaction."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

from libs import audit, crypto, eventlog, jobqueue
from libs.crypto import envelope
from libs.db import Tx, retrying
from libs.ids import made_at
from libs.principal import Principal, User
from services.files.adapters.keyring import Keyring, UserKey
from services.files.adapters.objects import Objects
from services.files.domain import file as decide
from services.files.domain.errors import UploadExpired
from services.files.domain.file import Declaration, File, Received, State, Version
from services.files.domain.job import ExpireUpload, RemoveVersion, RotateKey
from services.files.domain.key import object_key
from services.files.ops.event import facts
from services.files.ops.measure import Measured
from services.files.store import files, versions

Begin = Callable[[Principal], AbstractAsyncContextManager[Tx]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long an upload may take, how long its pending row lives (longer), how long removed bytes are kept.

    key: how old a user's key may be that seals; an older one still does, and is changed soon after.
    """

    upload: timedelta
    expiry: timedelta
    recovery: timedelta
    key: timedelta


class Upload:
    """The verb. limit_bytes: the largest file. at_once: how many bodies are received at a time."""

    def __init__(
        self,
        begin: Begin,
        objects: Objects,
        keyring: Keyring,
        ids: Callable[[], str],
        *,
        times: Times,
        limit_bytes: int,
        at_once: int,
    ) -> None:
        self._begin, self._objects, self._keyring, self._ids = begin, objects, keyring, ids
        self._times, self._limit_bytes = times, limit_bytes
        self._room = asyncio.Semaphore(at_once)

    async def __call__(self, who: User, declared: Declaration, body: AsyncIterator[bytes]) -> File:
        """Store *body* at the declared path and return the file with its new version; generation 1 means it is new.

        Limit and conditions are checked before the first byte is asked for, the conditions again at the end, when they
        count. Raises what domain.errors names; after any of it no byte of *body* is ever readable.
        """
        decide.admit(declared, limit_bytes=self._limit_bytes)
        data_key = crypto.new_key()
        version = await self._open(who, declared, await self._keyring.current(who.user_id), data_key)
        received = await self._receive(who, version, data_key, Measured(body, declared))
        try:
            return await retrying(self._commit)(who, version.id, declared, received)
        except UploadExpired:
            # The job may have looked before the last byte arrived.
            await self._objects.remove(who.user_id, _key(version))
            raise

    async def _open(self, who: User, declared: Declaration, key: UserKey, data_key: bytes) -> Version:
        async with self._begin(who) as tx:
            present = await files.by_path(tx, declared.path)
            decide.check(declared.conditions, present)
            ids = (self._ids(), present.id if present else self._ids())
            owner = (who.organization_id, who.user_id)
            wrapped = envelope.wrap_data_key(
                data_key, key.secret, user_id=who.user_id, version_id=ids[0], key_id=key.id
            )
            version = decide.pending(
                declared, owner=owner, ids=ids, key=(key.id, wrapped), now=tx.now(), life=self._times.expiry
            )
            await versions.add(tx, version)
            await jobqueue.put(tx, ExpireUpload(version.id), run_at=version.expires_at)
            if made_at(key.id) < tx.now() - self._times.key:
                await jobqueue.put(tx, RotateKey(key.id), unique=f"{who.user_id}/{key.id}")
            return version

    async def _receive(self, who: User, version: Version, data_key: bytes, body: Measured) -> Received:
        size_bytes = version.declared_bytes
        sealed = crypto.seal(body, data_key, *envelope.bytes_of(version.id), size_bytes=size_bytes)
        try:
            async with asyncio.timeout(self._times.upload.total_seconds()), self._room:
                await self._objects.put(who.user_id, _key(version), sealed, size_bytes=crypto.sealed_size(size_bytes))
        except TimeoutError:
            raise UploadExpired("The upload was not finished in time.") from None
        return body.received()

    async def _commit(self, who: User, version_id: str, declared: Declaration, received: Received) -> File:
        async with self._begin(who) as tx:
            version = await versions.lock(tx, version_id)
            if version is None or version.state is not State.PENDING:
                raise UploadExpired("The upload was not finished in time.")
            present = await self._claim(tx, version)
            decide.check(declared.conditions, present if present.generation else None)
            ready, newest = decide.commit(version, present, received, now=tx.now())
            await versions.save(tx, ready)
            await files.save(tx, newest)
            if present.generation:
                await self._supersede(tx, present)
            verb = "file.updated" if present.generation else "file.created"
            await audit.record(tx, verb, file=newest.id, generation=str(newest.generation))
            await eventlog.append(
                tx, organization_id=who.organization_id, user_id=who.user_id, type=verb, data=facts(newest)
            )
            return newest

    async def _claim(self, tx: Tx, version: Version) -> File:
        # The object's id becomes the file's, unless that file was deleted while the bytes were on their way.
        for file_id in (version.object_id, self._ids()):
            claimed = await files.claim(tx, decide.name(version, file_id=file_id, now=tx.now()))
            if claimed is not None:
                return claimed
        raise UploadExpired("The path was taken and given up again while the upload ended.")

    async def _supersede(self, tx: Tx, replaced: File) -> None:
        await versions.turn(tx, replaced.version_id, state=State.SUPERSEDED)
        await jobqueue.put(tx, RemoveVersion(replaced.version_id), run_at=tx.now() + self._times.recovery)


def _key(version: Version) -> str:
    return object_key(version.user_id, version.object_id, version.id)
