"""Reading a file's bytes: the row and the audit entry in one transaction, then the sealed bytes, opened."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from libs import audit, crypto
from libs.crypto import Damaged, envelope
from libs.db import Tx
from libs.observability import log
from libs.principal import User
from services.files.adapters.keyring import Keyring
from services.files.adapters.objects import Objects
from services.files.domain.errors import BytesDamaged, BytesMissing, FileNotFound, KeyMissing
from services.files.domain.file import File, Version
from services.files.domain.key import object_key
from services.files.domain.span import Span
from services.files.ops.upload import Begin
from services.files.store import files, versions

Chunks = AsyncIterator[bytes]
Choose = Callable[[File], Span]
_log = log.get(__name__)


class Download:
    """The verb."""

    def __init__(self, begin: Begin, objects: Objects, keyring: Keyring) -> None:
        self._begin, self._objects, self._keyring = begin, objects, keyring

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
        return file, span, self._opened(who, version, file.size_bytes, span)

    @asynccontextmanager
    async def _opened(self, who: User, version: Version, size_bytes: int, span: Span) -> AsyncIterator[Chunks]:
        """The bytes of *span*. The first are opened on entry, so that what cannot be read is refused and not cut off.

        Raises KeysErased, KeyMissing, BytesMissing, BytesDamaged, StoreUnavailable.
        """
        of = crypto.cut(size_bytes, offset=span.start, length=span.length)
        key = object_key(version.user_id, version.object_id, version.id)
        try:
            data_key = await self._data_key(who, version)
            async with self._objects.read(who.user_id, key, Span(of.start, of.length)) as sealed:
                plain = _told(crypto.unseal(sealed, data_key, *envelope.bytes_of(version.id), of=of))
                yield _again(await anext(plain, b""), plain)
        except (BytesDamaged, BytesMissing, KeyMissing) as fault:
            _log.error("file_unreadable", version=version.id, why=type(fault).__name__)
            raise

    async def _data_key(self, who: User, version: Version) -> bytes:
        if not version.key_id:
            raise BytesMissing("The file was stored before files were encrypted; store it again.")
        key = await self._keyring.find(who.user_id, version.key_id)
        try:
            return envelope.unwrap_data_key(
                version.wrapped_key, key.secret, user_id=who.user_id, version_id=version.id, key_id=key.id
            )
        except Damaged as fault:
            raise _damaged() from fault


async def _told(plain: Chunks) -> Chunks:
    try:
        async for chunk in plain:
            yield chunk
    except Damaged as fault:
        raise _damaged() from fault


async def _again(first: bytes, rest: Chunks) -> Chunks:
    if first:
        yield first
    async for chunk in rest:
        yield chunk


def _damaged() -> BytesDamaged:
    return BytesDamaged("The file's bytes are not as they were stored; the request id finds the reason in the logs.")
