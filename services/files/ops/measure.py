"""A body as it comes, measured against what was declared of it."""

import hashlib
from collections.abc import AsyncIterator

from services.files.domain.errors import ChecksumMismatch, LengthMismatch
from services.files.domain.file import Declaration, Received


class Measured:
    """The chunks of *body*, counted and hashed as they pass; iterate once, then ask what was received.

    Raises LengthMismatch at the first byte too many and for an end too early, ChecksumMismatch at the end.
    """

    def __init__(self, body: AsyncIterator[bytes], declared: Declaration) -> None:
        self._body, self._declared = body, declared
        self._hash = hashlib.sha256()
        self._count = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        declared = self._declared
        async for chunk in self._body:
            self._count += len(chunk)
            if self._count > declared.size_bytes:
                raise self._length()
            self._hash.update(chunk)
            yield chunk
        if self._count != declared.size_bytes:
            raise self._length()
        if declared.sha256 and self._hash.digest() != declared.sha256:
            raise ChecksumMismatch("The bytes do not have the declared SHA-256.")

    def received(self) -> Received:
        """What came in all: of the plaintext, whatever becomes of it."""
        return Received(self._count, self._hash.digest())

    def _length(self) -> LengthMismatch:
        declared = self._declared.size_bytes
        return LengthMismatch(f"{declared} bytes were declared; more or fewer came.", declared_bytes=declared)
