"""PUT /v1/files/<path>: the declared length is looked at before a byte of the body is asked for."""

import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from libs.errors import AppError, InvalidArgument, Kind, Violation
from libs.principal import User
from services.files.domain import path
from services.files.domain.file import DEFAULT_CONTENT_TYPE, Conditions, Declaration
from services.files.http.answer import file_json
from services.files.http.stages import PREFIX
from services.files.ops.upload import Upload

_LENGTH = re.compile(r"\d{1,18}")


class LengthRequired(AppError):
    """The body's length was not declared."""

    kind, reason = Kind.INVALID, "INVALID_ARGUMENT"
    http_status = 411


class Put:
    """The handler."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    async def __call__(self, request: Request, who: User) -> ASGIApp:
        """Store the body; 201 for a new path, 200 for a new version, the file as JSON either way."""
        stored = await self._upload(who, _declaration(request), _body(request))
        status = 201 if stored.generation == 1 else 200
        return JSONResponse(file_json(stored), status_code=status, headers={"etag": stored.etag})


def _declaration(request: Request) -> Declaration:
    headers = request.headers
    for name in ("content-range", "content-encoding"):
        # A forgotten part or encoding would make the stored bytes mean something else (RFC 9110 section 14.5).
        if headers.get(name, "identity") != "identity":
            raise _unusable(name, "is not supported with PUT")
    if headers.get("if-none-match", "*") != "*":
        raise _unusable("if-none-match", "can only be * with PUT")
    return Declaration(
        path=path.from_target(request.scope["raw_path"][len(PREFIX) :]),
        size_bytes=_length(request),
        content_type=headers.get("content-type", DEFAULT_CONTENT_TYPE),
        conditions=Conditions(headers.get("if-match", ""), headers.get("if-none-match", "")),
    )


def _length(request: Request) -> int:
    declared = request.headers.get("content-length", "")
    if "transfer-encoding" in request.headers or not _LENGTH.fullmatch(declared):
        raise LengthRequired("Content-Length has to be declared.", header="content-length")
    return int(declared)


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _unusable(header: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{header} {why}.", violations=[Violation(header, why)], header=header)
