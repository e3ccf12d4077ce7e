"""Removing bytes that nothing needs any more. Called by jobs; each verb may run twice, or with nothing to do."""

from libs import audit
from libs.principal import User
from services.files.adapters.objects import Objects
from services.files.domain.file import State, Version
from services.files.domain.key import object_key
from services.files.ops.upload import Begin
from services.files.store import files, versions


class Remove:
    """The verbs. Each marks first, then removes the object, and the row last: a crash between is taken up again."""

    def __init__(self, begin: Begin, objects: Objects) -> None:
        self._begin, self._objects = begin, objects

    async def upload(self, who: User, version_id: str) -> None:
        """End an upload that was not finished: from here on it cannot be committed, and its bytes go."""
        async with self._begin(who) as tx:
            version = await versions.lock(tx, version_id)
            if version is None or version.state not in (State.PENDING, State.EXPIRED):
                return
            await versions.turn(tx, version.id, state=State.EXPIRED)
        await self._version(who, version)

    async def version(self, who: User, version_id: str) -> None:
        """Remove a version that another one has replaced."""
        async with self._begin(who) as tx:
            version = await versions.lock(tx, version_id)
        if version is not None and version.state is State.SUPERSEDED:
            await self._version(who, version)

    async def file(self, who: User, file_id: str) -> None:
        """Remove a deleted file with all its versions; a file that was restored meanwhile is left alone."""
        async with self._begin(who) as tx:
            if await files.lock_tombstone(tx, file_id) is None:
                return
            old = await versions.of_file(tx, file_id)
        for version in old:
            await self._bytes(who, version)
        async with self._begin(who) as tx:
            if await files.lock_tombstone(tx, file_id) is None:
                return
            for version in old:
                await versions.remove(tx, version.id)
            await files.remove(tx, file_id)
            await audit.record(tx, "file.removed", file=file_id)

    async def _version(self, who: User, version: Version) -> None:
        await self._bytes(who, version)
        async with self._begin(who) as tx:
            await versions.remove(tx, version.id)

    async def _bytes(self, who: User, version: Version) -> None:
        await self._objects.remove(who.user_id, object_key(version.user_id, version.object_id, version.id))
