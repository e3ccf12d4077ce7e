"""Files of the signed-in user: whole or streamed, with their checksum checked on the way down."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError
from holdfast.files.v1 import file_service_pb2 as pb
from holdfast.files.v1.file_service_pb2_grpc import FileServiceStub

if TYPE_CHECKING:
    from holdfast.client import Client, Metadata

CHUNK_BYTES = 256 * 1024
TRANSFER_SECONDS = 900.0


class Files:
    """`client.files`."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._stub: Any = FileServiceStub(client.channel)

    async def upload(
        self, path: str, source: bytes | Path, *, content_type: str = "", if_none_match: str = ""
    ) -> pb.File:
        """Store *source* (bytes, or a local file that is read as it is sent) under *path*, replacing what was there.

        if_none_match: "*" refuses to replace. The server compares size and, for bytes, SHA-256. The call begins anew
        with a fresh token if the first is not taken: nothing was stored then.
        """
        size = len(source) if isinstance(source, bytes) else await asyncio.to_thread(_size, source)
        header = pb.UploadHeader(
            parent=self._client.session.user, path=path, size_bytes=size, content_type=content_type,
            if_none_match=if_none_match, sha256=hashlib.sha256(source).digest() if isinstance(source, bytes) else b"",
        )  # fmt: skip

        async def once(metadata: "Metadata") -> pb.UploadFileResponse:
            messages = _messages(header, source)
            answer: pb.UploadFileResponse = await self._stub.UploadFile(
                messages, metadata=metadata, timeout=TRANSFER_SECONDS
            )
            return answer

        return (await self._client.authorized(once)).file

    async def download(self, name: str, *, offset: int = 0, length: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes of the file with this resource name in chunks; length 0 means to the end.

        Raises HoldfastError CHECKSUM_MISMATCH after the last chunk of a whole file that is not the file that was
        stored.
        """
        request = pb.DownloadFileRequest(name=name, offset=offset, length=length)
        digest, expected = hashlib.sha256(), b""
        async with aclosing(self._client.stream(self._stub.DownloadFile, request, timeout=TRANSFER_SECONDS)) as answers:
            async for answer in answers:
                if answer.HasField("file"):
                    expected = answer.file.sha256
                    continue
                digest.update(answer.data)
                yield answer.data
        if expected and not offset and not length and digest.digest() != expected:
            raise HoldfastError("DATA_LOSS", "The bytes received are not those stored.", "CHECKSUM_MISMATCH")

    async def read(self, name: str) -> bytes:
        """The whole file in memory."""
        return b"".join([chunk async for chunk in self.download(name)])

    async def get(self, name: str) -> pb.File:
        """The file's record."""
        answer: pb.GetFileResponse = await self._client.call(self._stub.GetFile, pb.GetFileRequest(name=name))
        return answer.file

    async def list(self, prefix: str = "") -> AsyncIterator[pb.File]:
        """Every file whose path begins with *prefix*, page by page."""
        request = pb.ListFilesRequest(parent=self._client.session.user, path_prefix=prefix)
        while True:
            answer: pb.ListFilesResponse = await self._client.call(self._stub.ListFiles, request)
            for file in answer.files:
                yield file
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def find(self, path: str) -> pb.File:
        """The file at exactly *path*. Raises HoldfastError FILE_NOT_FOUND."""
        async for file in self.list(path):
            if file.path == path:
                return file
        raise HoldfastError("NOT_FOUND", f"There is no file {path}.", "FILE_NOT_FOUND", facts={"path": path})

    async def delete(self, name: str, *, etag: str = "") -> None:
        """Delete the file with this resource name; etag: only while it is still this."""
        await self._client.call(self._stub.DeleteFile, pb.DeleteFileRequest(name=name, etag=etag))


def _size(source: Path) -> int:
    return source.stat().st_size


async def _messages(header: pb.UploadHeader, source: bytes | Path) -> AsyncIterable[pb.UploadFileRequest]:
    yield pb.UploadFileRequest(header=header)
    for chunk in _chunks(source):
        yield pb.UploadFileRequest(data=chunk)


def _chunks(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield from (source[at : at + CHUNK_BYTES] for at in range(0, len(source), CHUNK_BYTES))
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
