"""The servicer. Names that are not the caller's own are refused before any query (AIP-211)."""

from collections.abc import AsyncIterator

from holdfast.files.v1 import file_service_pb2 as pb
from holdfast.files.v1 import file_service_pb2_grpc
from libs.names import FILE, USER, own
from libs.principal import User
from libs.rpc.server import Context, user
from services.files.domain.span import slice_of
from services.files.ops.delete import Delete
from services.files.ops.download import Download
from services.files.ops.find import Find
from services.files.ops.upload import Upload
from services.files.rpc import message


class FileServicer(file_service_pb2_grpc.FileServiceServicer):
    """See protos/holdfast/files/v1/file_service.proto."""

    def __init__(self, upload: Upload, download: Download, find: Find, delete: Delete) -> None:
        self._upload, self._download, self._find, self._delete = upload, download, find, delete

    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: Context
    ) -> pb.UploadFileResponse:
        """Store a file from a stream."""
        who = user(context)
        header = await message.header(request_iterator)
        own(USER, header.parent, who, field="header.parent")
        stored = await self._upload(who, message.declaration(header), message.data(request_iterator))
        return pb.UploadFileResponse(file=message.file_message(stored))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Context
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        """Stream a file's bytes, the file first."""
        who = user(context)
        file, _, content = await self._download.by_id(
            who,
            _id(request.name, who),
            lambda found: slice_of(found.size_bytes, offset=request.offset, length=request.length),
        )
        async with content as chunks:
            yield pb.DownloadFileResponse(file=message.file_message(file))
            async for chunk in chunks:
                yield pb.DownloadFileResponse(data=chunk)

    async def GetFile(self, request: pb.GetFileRequest, context: Context) -> pb.GetFileResponse:
        """Return what is known of a file."""
        who = user(context)
        found = await self._find.by_id(who, _id(request.name, who))
        return pb.GetFileResponse(file=message.file_message(found))

    async def ListFiles(self, request: pb.ListFilesRequest, context: Context) -> pb.ListFilesResponse:
        """Return one page of the caller's files."""
        who = user(context)
        own(USER, request.parent, who, field="parent")
        page = await self._find.page(
            who, prefix=request.path_prefix, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListFilesResponse(
            files=[message.file_message(each) for each in page.files], next_page_token=page.next_token
        )

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Context) -> pb.DeleteFileResponse:
        """Make a file a tombstone."""
        who = user(context)
        await self._delete(who, _id(request.name, who), if_match=request.etag, request_id=request.request_id)
        return pb.DeleteFileResponse()


def _id(name: str, who: User) -> str:
    return own(FILE, name, who)["file"]
