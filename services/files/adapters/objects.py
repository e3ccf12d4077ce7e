"""The object store as files needs it: sealed bytes in, sealed bytes out.

Every key passes `domain.key.owned` here, in the lowest layer (T7).
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.files.domain.span import Span


class Objects(Protocol):
    """Bytes under keys `<user id>/<object id>/<version id>`; *user_id*, the caller's, must be the first segment.

    All raise ForeignObject for another's key before anything is sent, and StoreUnavailable when the store is away.
    """

    async def put(self, user_id: str, key: str, body: AsyncIterator[bytes], *, size_bytes: int) -> None:
        """Store *body*, which has to be exactly *size_bytes* long.

        Raises LengthMismatch; then, and when *body* raises, nothing is stored. Uses no local file.
        """

    def read(self, user_id: str, key: str, span: Span) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of *span*, one at least, in chunks, opened on entry. Raises BytesMissing when there is none."""

    async def remove(self, user_id: str, key: str) -> None:
        """Remove the object and every unfinished upload under its key; nothing happens when there is none."""

    async def probe(self) -> None:
        """Return when the store answers and our key pair may use the bucket."""
