"""AppError on the wire: one table from what the caller should do to the gRPC code and the HTTP status.

Every error is a google.rpc.Status with exactly one ErrorInfo (reason, domain, facts) and one RequestInfo; BadRequest
lists field violations; RetryInfo stands only where waiting helps. Source: AIP-193; google/rpc/code.proto for the HTTP
mapping.
"""

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from libs.errors import AppError, Kind

DOMAIN = "holdfast.dev"
DETAILS = "grpc-status-details-bin"
REQUEST_ID = "x-request-id"
_TYPE_PREFIX = "type.googleapis.com/"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One row of the table."""

    code: grpc.StatusCode
    http: int


TABLE: dict[Kind, Mapping] = {
    Kind.INVALID: Mapping(grpc.StatusCode.INVALID_ARGUMENT, 400),
    Kind.OUT_OF_RANGE: Mapping(grpc.StatusCode.OUT_OF_RANGE, 400),
    Kind.UNAUTHENTICATED: Mapping(grpc.StatusCode.UNAUTHENTICATED, 401),
    Kind.FORBIDDEN: Mapping(grpc.StatusCode.PERMISSION_DENIED, 403),
    Kind.NOT_FOUND: Mapping(grpc.StatusCode.NOT_FOUND, 404),
    Kind.EXISTS: Mapping(grpc.StatusCode.ALREADY_EXISTS, 409),
    Kind.CONFLICT: Mapping(grpc.StatusCode.ABORTED, 409),
    Kind.PRECONDITION: Mapping(grpc.StatusCode.FAILED_PRECONDITION, 400),
    Kind.EXHAUSTED: Mapping(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    Kind.UNAVAILABLE: Mapping(grpc.StatusCode.UNAVAILABLE, 503),
    Kind.DEADLINE: Mapping(grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    Kind.UNIMPLEMENTED: Mapping(grpc.StatusCode.UNIMPLEMENTED, 501),
    Kind.INTERNAL: Mapping(grpc.StatusCode.INTERNAL, 500),
}
HELPED_BY_WAITING = frozenset({Kind.UNAVAILABLE, Kind.EXHAUSTED})


class InvalidUserToken(AppError):
    """The user token or service token is forged, expired, for another audience, or there more than once."""

    kind, reason = Kind.UNAUTHENTICATED, "INVALID_USER_TOKEN"


class Internal(AppError):
    """A fault of ours; its text stays in the log."""

    kind, reason = Kind.INTERNAL, "INTERNAL"


class DeadlineExceeded(AppError):
    """The call took longer than its deadline."""

    kind, reason = Kind.DEADLINE, "DEADLINE_EXCEEDED"


class Unimplemented(AppError):
    """No such method."""

    kind, reason = Kind.UNIMPLEMENTED, "UNIMPLEMENTED"


def code(kind: Kind) -> grpc.StatusCode:
    """The gRPC code of *kind*."""
    return TABLE[kind].code


def http_status(kind: Kind) -> int:
    """The HTTP status of *kind*."""
    return TABLE[kind].http


def masked(fault: BaseException) -> AppError:
    """What the caller may know of *fault*: an AppError as it is, anything else as INTERNAL without its text."""
    if isinstance(fault, AppError):
        return fault
    return Internal("Something failed on our side; the request id finds it in the logs.")


def to_status(error: AppError, request_id: str = "") -> status_pb2.Status:
    """*error* as the one shape every error has on the wire."""
    number: int = code(error.kind).value[0]
    status = status_pb2.Status(code=number, message=error.message)
    for detail in _details(error, request_id):
        status.details.append(_packed(detail))
    return status


def trailers(error: AppError, request_id: str = "") -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries *error*: the details and the request id."""
    return ((DETAILS, to_status(error, request_id).SerializeToString()), (REQUEST_ID, request_id))


def body(error: AppError, request_id: str = "") -> dict[str, Any]:
    """*error* as the JSON body of an HTTP answer; status by `http_status`."""
    answer: dict[str, Any] = {
        "code": code(error.kind).value[0],
        "status": code(error.kind).name,
        "message": error.message,
        "reason": error.reason,
        "request_id": request_id,
        "violations": [{"field": each.field, "description": each.description} for each in error.violations],
    }
    if error.facts:
        answer["facts"] = dict(error.facts)
    retry = retry_after_seconds(error)
    if retry is not None:
        answer["retry_after_seconds"] = retry
    return {"error": answer}


def retry_after_seconds(error: AppError) -> float | None:
    """How long to wait before the same call can work; None where waiting alone does not help. For `Retry-After` round
    up.
    """
    return error.retry_after_seconds if error.kind in HELPED_BY_WAITING else None


def _details(error: AppError, request_id: str) -> list[Message]:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.facts)),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for each in error.violations:
            bad.field_violations.add(field=each.field, description=each.description)
        details.append(bad)
    retry = retry_after_seconds(error)
    if retry is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(int(retry * 1000))
        details.append(info)
    return details


def _packed(detail: Message) -> any_pb2.Any:
    return any_pb2.Any(type_url=_TYPE_PREFIX + detail.DESCRIPTOR.full_name, value=detail.SerializeToString())
