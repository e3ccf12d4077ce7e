"""Objects in any S3: a few parts of one upload in memory, nothing on local disk.

Keys are never written twice and the store's conditional writes are not used: Postgres arbitrates.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from services.files.adapters.bucket import Absent, Bucket
from services.files.domain.errors import BytesMissing, LengthMismatch, StoreUnavailable, UploadExpired
from services.files.domain.key import owned
from services.files.domain.span import Span

PART_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 512 * 1024


class S3Objects(Bucket):
    """The bucket of the file bytes. See Objects."""

    async def put(self, user_id: str, key: str, body: AsyncIterator[bytes], *, size_bytes: int) -> None:
        """See Objects. A body of one part is one request, a longer one a multipart upload."""
        target = {"Bucket": self._bucket, "Key": owned(key, user_id)}
        parts = _Parts(body, size_bytes)
        first = await parts.next()
        if parts.ended:
            await self._call(self._client.put_object, **target, Body=first)
        else:
            await self._multipart(target, first, parts)

    @asynccontextmanager
    async def read(self, user_id: str, key: str, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """See Objects."""
        target = {"Bucket": self._bucket, "Key": owned(key, user_id)}
        try:
            answer = await self._call(self._client.get_object, **target, Range=f"bytes={span.start}-{span.last}")
        except Absent as fault:
            raise BytesMissing(
                "The file's bytes cannot be found; the request id finds the reason in the logs."
            ) from fault
        try:
            yield self._chunks(answer["Body"], span.length)
        finally:
            answer["Body"].close()

    async def remove(self, user_id: str, key: str) -> None:
        """See Objects."""
        target = {"Bucket": self._bucket, "Key": owned(key, user_id)}
        open_ones = await self._call(self._client.list_multipart_uploads, Bucket=self._bucket, Prefix=key)
        for upload in open_ones.get("Uploads", []):
            if upload["Key"] == key:
                await self._forgiving(self._client.abort_multipart_upload, **target, UploadId=upload["UploadId"])
        await self._forgiving(self._client.delete_object, **target)

    async def _multipart(self, target: dict[str, str], first: bytearray, parts: "_Parts") -> None:
        upload = {**target, "UploadId": (await self._call(self._client.create_multipart_upload, **target))["UploadId"]}
        try:
            sent = await self._send_parts(upload, first, parts)
            await self._complete(target, upload, sent, parts.declared)
        except Absent as fault:
            raise UploadExpired("The upload was not finished in time.") from fault
        except BaseException:
            # Shielded: a cancelled call must not leave parts behind. The expiry job is the net below.
            await asyncio.shield(self._abandon(upload))
            raise

    async def _complete(
        self, target: dict[str, str], upload: dict[str, str], sent: list[dict[str, Any]], size_bytes: int
    ) -> None:
        """Make the parts one object. An answer that was lost on the way is not a failure when the object is there."""
        try:
            await self._call(self._client.complete_multipart_upload, **upload, MultipartUpload={"Parts": sent})
        except (Absent, StoreUnavailable):
            answer = await self._call(self._client.head_object, **target)
            if answer["ContentLength"] != size_bytes:
                raise

    async def _send_parts(self, upload: dict[str, str], part: bytearray, parts: "_Parts") -> list[dict[str, Any]]:
        """Send each part while the next one is being received."""
        sent: list[dict[str, Any]] = []
        while part:
            number = len(sent) + 1
            sending = asyncio.ensure_future(
                self._call(self._client.upload_part, **upload, PartNumber=number, Body=part)
            )
            try:
                part = bytearray() if parts.ended else await parts.next()
            finally:
                answer = (await asyncio.gather(sending, return_exceptions=True))[0]
            if isinstance(answer, BaseException):
                raise answer
            sent.append({"PartNumber": number, "ETag": answer["ETag"]})
        return sent

    async def _abandon(self, upload: dict[str, str]) -> None:
        try:
            await self._forgiving(self._client.abort_multipart_upload, **upload)
        except StoreUnavailable:
            return

    async def _chunks(self, body: Any, left: int) -> AsyncIterator[bytes]:
        while left:
            chunk = await self._call(partial(body.read, min(CHUNK_BYTES, left)))
            if not chunk:
                raise StoreUnavailable("The object store ended before the file did.", retry_after_seconds=1.0)
            left -= len(chunk)
            yield chunk


class _Parts:
    """The body cut into parts of PART_BYTES, counted; the last part is given only when the body has ended well."""

    def __init__(self, body: AsyncIterator[bytes], size_bytes: int) -> None:
        self._body, self.declared = body, size_bytes
        self._pending = bytearray()
        self._count = 0
        self.ended = False

    async def next(self) -> bytearray:
        """The next part; `ended` is set with the last one. Raises LengthMismatch, and what the body raises."""
        async for chunk in self._body:
            self._count += len(chunk)
            if self._count > self.declared:
                raise _length(self.declared)
            self._pending += chunk
            if len(self._pending) >= PART_BYTES and self._count < self.declared:
                return self._take(PART_BYTES)
        if self._count != self.declared:
            raise _length(self.declared)
        self.ended = True
        return self._take(len(self._pending))

    def _take(self, count: int) -> bytearray:
        # The buffer itself is handed on and only what is over is copied: a part is never in memory twice.
        part, self._pending = self._pending, self._pending[count:]
        del part[count:]
        return part


def _length(declared: int) -> LengthMismatch:
    return LengthMismatch(f"{declared} bytes were declared; more or fewer came.", declared_bytes=declared)
