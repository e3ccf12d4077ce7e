"""Reading a file's bytes: the row and the audit entry in one transaction, then the bytes from the store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from libs import audit
from libs.db import Tx
from libs.principal import User
from services.files.adapters.objects import Objects
from services.files.domain.errors import FileNotFound
from services.files.domain.file import File
from services.files.domain.key import object_key
from services.files.domain.span import Span
from services.files.ops.upload import Begin
from services.files.store import files, versions

Chunks = AsyncIterator[bytes]
Choose = Callable[[File], Span]


class Download:
    """The verb."""

    def __init__(self, begin: Begin, objects: Objects) -> None:
        self._begin, self._objects = begin, objects

    async def by_id(
        self, who: User, file_id: str, choose: Choose
    ) -> tuple[File, Span, AbstractAsyncContextManager[Chunks]]:
        """The file, the span that *choose* picks of it, and its bytes, not yet opened. Raises FileNotFound.

        A version replaced or deleted meanwhile keeps its bytes for the recovery window, so what was found can be read.
        """
        return await self._of(who, lambda tx: files.by_id(tx, file_id), choose)

    async def by_path(
        self, who: User, path: str, choose: Choose
    ) -> tuple[File, Span, AbstractAsyncContextManager[Chunks]]:
        """Like by_id."""
        return await self._of(who, lambda tx: files.by_path(tx, path), choose)

    async def _of(
        self, who: User, find: Callable[[Tx], Awaitable[File | None]], choose: Choose
    ) -> tuple[File, Span, AbstractAsyncContextManager[Chunks]]:
        async with self._begin(who) as tx:
            file = await find(tx)
            version = await versions.of(tx, file.version_id) if file else None
            if file is None or version is None:
                raise FileNotFound("There is no such file.")
            span = choose(file)
            await audit.record(tx, "file.read", file=file.id, generation=str(file.generation))
        key = object_key(version.user_id, version.object_id, version.id)
        return file, span, self._objects.read(who.user_id, key, span)
