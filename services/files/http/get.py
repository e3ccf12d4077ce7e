"""GET and HEAD /v1/files/<path>: conditions first, then the range (RFC 9110 section 13.2.2)."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.principal import User
from services.files.domain import file as decide
from services.files.domain import path
from services.files.domain.file import Conditions, File
from services.files.domain.span import Span, from_header
from services.files.http.answer import file_headers
from services.files.http.stages import PREFIX
from services.files.ops.download import Download
from services.files.ops.find import Find


class _NotModified(Exception):
    def __init__(self, file: File) -> None:
        super().__init__()
        self.file = file


class Get:
    """The handler of GET."""

    def __init__(self, download: Download) -> None:
        self._download = download

    async def __call__(self, request: Request, who: User) -> ASGIApp:
        """The file's bytes: 200 whole, 206 a single range, 304, 412 or 416."""
        try:
            file, span, content = await self._download.by_path(
                who, _path(request), lambda found: _wanted(request, found)
            )
        except _NotModified as same:
            return _not_modified(same.file)
        return _Bytes(file, span, content)


class Head:
    """The handler of HEAD: what GET would say, without the bytes and without counting as a reading of them."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def __call__(self, request: Request, who: User) -> ASGIApp:
        """The headers GET would send."""
        file = await self._find.by_path(who, _path(request))
        try:
            span = _wanted(request, file)
        except _NotModified as same:
            return _not_modified(same.file)
        return Response(status_code=_status(span), headers=_headers(file, span))


class _Bytes:
    """Opens the store before the head goes out, so that an absent store is a 503 and not a broken 200."""

    def __init__(self, file: File, span: Span, content: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> None:
        self._file, self._span, self._content = file, span, content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = _headers(self._file, self._span).items()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told]
        async with self._content as chunks:
            start = {"type": "http.response.start", "status": _status(self._span), "headers": headers}
            await send(start)
            request = Request(scope, receive)
            async for chunk in chunks:
                # uvicorn drops what is sent to a client that has left, without saying so.
                if await request.is_disconnected():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _path(request: Request) -> str:
    raw: bytes = request.scope["raw_path"]
    return path.from_target(raw[len(PREFIX) :])


def _wanted(request: Request, file: File) -> Span:
    headers = request.headers
    decide.check(Conditions(if_match=headers.get("if-match", "")), file)
    if _listed(headers.get("if-none-match", ""), file.etag):
        raise _NotModified(file)
    asked = headers.get("range", "")
    if headers.get("if-range", file.etag) != file.etag:
        asked = ""
    return from_header(asked, file.size_bytes) or Span(0, file.size_bytes)


def _listed(header: str, etag: str) -> bool:
    """Whether an If-None-Match header names *etag*; weak comparison, RFC 9110 section 8.8.3.2."""
    named = [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in named or etag in named


def _not_modified(file: File) -> Response:
    kept = ("etag", "cache-control", "last-modified")
    return Response(status_code=304, headers={name: file_headers(file)[name] for name in kept})


def _status(span: Span) -> int:
    return 206 if span.ranged else 200


def _headers(file: File, span: Span) -> dict[str, str]:
    headers = file_headers(file) | {"content-length": str(span.length)}
    if span.ranged:
        headers["content-range"] = f"bytes {span.start}-{span.last}/{file.size_bytes}"
    return headers
