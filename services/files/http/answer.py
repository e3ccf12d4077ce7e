"""Answers: a file as JSON, its headers, and refusals in the one shape all services use."""

import base64
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from starlette.responses import JSONResponse

from libs.errors import AppError
from libs.names import FILE
from libs.rpc import errors
from services.files.domain.file import File
from services.files.domain.path import basename

# Where HTTP has a more telling status than the kind's own. Source: RFC 9110 sections 13 to 15.
_STATUS: Mapping[str, int] = {
    "FILE_TOO_LARGE": 413,
    "RANGE_NOT_SATISFIABLE": 416,
    "ETAG_MISMATCH": 412,
    "FILE_EXISTS": 412,
    "FILES_ERASED": 410,
}
# What a person uploaded is never a page of ours: no sniffing, no script, nothing loaded, nothing kept by shared caches.
_GUARDS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "cache-control": "private, no-cache",
}
_FALLBACK_REFUSED = frozenset('"\\%;')


def refusal(error: AppError, request_id: str) -> JSONResponse:
    """*error* as JSON with its status: its own http_status when its class has one, else by reason, else by kind."""
    headers = {"x-request-id": request_id, "x-content-type-options": "nosniff", "cache-control": "no-store"}
    wait = errors.retry_after_seconds(error)
    if wait is not None:
        headers["retry-after"] = str(math.ceil(wait))
    if error.reason == "RANGE_NOT_SATISFIABLE":
        headers["content-range"] = f"bytes */{error.facts['size_bytes']}"
    own: int | None = getattr(error, "http_status", None)
    status = own or _STATUS.get(error.reason) or errors.http_status(error.kind)
    return JSONResponse(errors.body(error, request_id), status_code=status, headers=headers)


def file_json(file: File) -> dict[str, Any]:
    """*file* with the JSON names of the contract's message (protobuf JSON mapping: 64-bit numbers as text)."""
    return {
        "name": FILE.format(organization=file.organization_id, user=file.user_id, file=file.id),
        "path": file.path,
        "sizeBytes": str(file.size_bytes),
        "sha256": base64.b64encode(file.sha256).decode(),
        "contentType": file.content_type,
        "generation": str(file.generation),
        "etag": file.etag,
        "createTime": _time(file.created_at),
        "updateTime": _time(file.updated_at),
    }


def file_headers(file: File) -> dict[str, str]:
    """The headers every answer with a file's bytes has, whole or in part."""
    return {
        "content-type": file.content_type,
        "content-disposition": disposition(basename(file.path)),
        "etag": file.etag,
        "last-modified": file.updated_at.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "accept-ranges": "bytes",
        "repr-digest": f"sha-256=:{base64.b64encode(file.sha256).decode()}:",
        **_GUARDS,
    }


def disposition(name: str) -> str:
    """A Content-Disposition that saves as *name* in any language. Source: RFC 6266 section 4.3, RFC 8187."""
    plain = "".join(
        character if " " <= character <= "~" and character not in _FALLBACK_REFUSED else "_" for character in name
    )
    exact = quote(name, safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"


def _time(moment: datetime) -> str:
    """RFC 3339 as the protobuf JSON mapping writes it: no fraction, or 3, 6 or 9 digits of it."""
    whole = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if not moment.microsecond:
        return f"{whole}Z"
    digits = f"{moment.microsecond:06d}"
    return f"{whole}.{digits.removesuffix('000')}Z"
