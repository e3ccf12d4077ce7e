"""Objects in any S3: boto3 in threads, a few parts of one upload in memory, nothing on local disk.

Keys are never written twice and the store's conditional writes are not used: Postgres arbitrates.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from libs.secret import Secret
from services.files.domain.errors import BytesMissing, ChecksumMismatch, LengthMismatch, StoreUnavailable, UploadExpired
from services.files.domain.file import Received
from services.files.domain.key import owned
from services.files.domain.span import Span

PART_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 512 * 1024
_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "404"})

R = TypeVar("R")


class S3Objects:
    """One bucket of one S3, spoken to with one key pair. A libs.process.Part too, for its threads.

    endpoint: https URL. ca_file: PEM of who may vouch for it, "" for the system's. threads: how many calls at once.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        bucket: str,
        access_key: str,
        secret_key: Secret,
        ca_file: str,
        threads: int,
    ) -> None:
        self._bucket = bucket
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="s3")
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key.text(),
            verify=ca_file or True,
            config=Config(
                connect_timeout=3,
                read_timeout=30,
                # A store that has just started does not know all its volumes at once: ride over a second or two.
                retries={"total_max_attempts": 3, "mode": "standard"},
                max_pool_connections=threads * 4,
                # Self-hosted stores break on the checksum trailers boto3 adds by itself; ours is a SHA-256 of all.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    async def put(
        self, user_id: str, key: str, body: AsyncIterator[bytes], *, size_bytes: int, sha256: bytes = b""
    ) -> Received:
        """See Objects. A body of one part is one request, a longer one a multipart upload."""
        target = {"Bucket": self._bucket, "Key": owned(key, user_id)}
        parts = _Parts(body, size_bytes, sha256)
        first = await parts.next()
        if parts.ended:
            await self._call(self._client.put_object, **target, Body=first)
        else:
            await self._multipart(target, first, parts)
        return parts.received()

    @asynccontextmanager
    async def read(self, user_id: str, key: str, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """See Objects."""
        target = {"Bucket": self._bucket, "Key": owned(key, user_id)}
        if not span.length:
            yield _nothing()
            return
        try:
            answer = await self._call(self._client.get_object, **target, Range=f"bytes={span.start}-{span.last}")
        except _Absent as fault:
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

    async def probe(self) -> None:
        """See Objects."""
        await self._call(self._client.list_objects_v2, Bucket=self._bucket, MaxKeys=1)

    async def check(self) -> list[str]:
        """What is wrong with the store or our way to it; [] when it may be used."""
        try:
            await self.probe()
        except StoreUnavailable as fault:
            return [fault.message]
        return []

    async def start(self) -> None:
        """Nothing: connections are opened when they are needed."""

    def refuse(self) -> None:
        """Nothing: the transports refuse."""

    async def drain(self, seconds: float) -> None:
        """Nothing: whoever moves bytes drains first."""

    async def stop(self) -> None:
        """Close the connections; calls still running end first."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def _multipart(self, target: dict[str, str], first: bytearray, parts: "_Parts") -> None:
        upload = {**target, "UploadId": (await self._call(self._client.create_multipart_upload, **target))["UploadId"]}
        try:
            sent = await self._send_parts(upload, first, parts)
            await self._complete(target, upload, sent, parts.received().size_bytes)
        except _Absent as fault:
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
        except (_Absent, StoreUnavailable):
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

    async def _forgiving(self, function: Callable[..., Any], **arguments: Any) -> None:
        try:
            await self._call(function, **arguments)
        except _Absent:
            return

    async def _call(self, function: Callable[..., R], **arguments: Any) -> R:
        def run() -> R:
            with _translated():
                return function(**arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


class _Absent(Exception):
    """The store has no such object or upload."""


class _Parts:
    """The body cut into parts of PART_BYTES, counted and hashed; the digest is checked before the last part."""

    def __init__(self, body: AsyncIterator[bytes], size_bytes: int, sha256: bytes) -> None:
        self._body, self._declared, self._expected = body, size_bytes, sha256
        self._pending = bytearray()
        self._hash = hashlib.sha256()
        self._count = 0
        self.ended = False

    def received(self) -> Received:
        """What came in all."""
        return Received(self._count, self._hash.digest())

    async def next(self) -> bytearray:
        """The next part; `ended` is set with the last one. Raises LengthMismatch or ChecksumMismatch."""
        async for chunk in self._body:
            self._count += len(chunk)
            if self._count > self._declared:
                raise _length(self._declared)
            self._hash.update(chunk)
            self._pending += chunk
            if len(self._pending) >= PART_BYTES and self._count < self._declared:
                return self._take(PART_BYTES)
        if self._count != self._declared:
            raise _length(self._declared)
        if self._expected and self._hash.digest() != self._expected:
            raise ChecksumMismatch("The bytes do not have the declared SHA-256.")
        self.ended = True
        return self._take(len(self._pending))

    def _take(self, count: int) -> bytearray:
        # The buffer itself is handed on and only what is over is copied: a part is never in memory twice.
        part, self._pending = self._pending, self._pending[count:]
        del part[count:]
        return part


def _length(declared: int) -> LengthMismatch:
    return LengthMismatch(f"{declared} bytes were declared; more or fewer came.", declared_bytes=declared)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


@contextmanager
def _translated() -> Iterator[None]:
    """boto3's faults as what they mean; the text of none of them leaves this module."""
    try:
        yield
    except ClientError as fault:
        if fault.response.get("Error", {}).get("Code") in _ABSENT:
            raise _Absent from fault
        raise _away() from fault
    except (BotoCoreError, HTTPClientError, OSError) as fault:
        raise _away() from fault


def _away() -> StoreUnavailable:
    return StoreUnavailable("The object store cannot be reached.", retry_after_seconds=2.0)
