"""Domain values as messages of the contract, and back."""

from collections.abc import AsyncIterator

from holdfast.files.v1 import file_service_pb2 as pb
from libs.errors import InvalidArgument, Violation
from libs.names import FILE
from services.files.domain import path
from services.files.domain.file import DEFAULT_CONTENT_TYPE, Conditions, Declaration, File


def file_message(file: File) -> pb.File:
    """*file* as the contract shows it."""
    message = pb.File(
        name=FILE.format(organization=file.organization_id, user=file.user_id, file=file.id),
        path=file.path,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        content_type=file.content_type,
        generation=file.generation,
        etag=file.etag,
    )
    message.create_time.FromDatetime(file.created_at)
    message.update_time.FromDatetime(file.updated_at)
    return message


def declaration(header: pb.UploadHeader) -> Declaration:
    """What an upload's header declares. Raises PathInvalid."""
    return Declaration(
        path=path.parse(header.path, field="header.path"),
        size_bytes=header.size_bytes,
        content_type=header.content_type or DEFAULT_CONTENT_TYPE,
        sha256=header.sha256,
        conditions=Conditions(header.if_match, header.if_none_match),
    )


async def header(messages: AsyncIterator[pb.UploadFileRequest]) -> pb.UploadHeader:
    """The header, which has to be the first message. Raises InvalidArgument."""
    async for message in messages:
        if message.WhichOneof("part") == "header":
            return message.header
        break
    raise _misplaced("header", "has to be the first message")


async def data(messages: AsyncIterator[pb.UploadFileRequest]) -> AsyncIterator[bytes]:
    """The bytes of the messages that follow. Raises InvalidArgument for a second header."""
    async for message in messages:
        if message.WhichOneof("part") != "data":
            raise _misplaced("data", "is all that can follow the header")
        yield message.data


def _misplaced(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {why}.", violations=[Violation(field, why)], field=field, why=why)
