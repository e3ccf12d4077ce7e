"""The one error a caller of Holdfast meets, with everything the server told about it."""

from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_REQUEST_ID = "x-request-id"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of the request that breaks its bound."""

    field: str
    description: str


@dataclass(eq=False)
class HoldfastError(Exception):
    """A call that was refused or failed.

    code: the gRPC code's name, e.g. "NOT_FOUND". reason: a name of holdfast.common.v1.ErrorReason without its prefix,
    "" when the answer did not come from Holdfast. retry_after_seconds: None unless waiting helps. request_id: for
    whoever runs the installation; it finds the call in the logs. facts: what the message is about.
    """

    code: str
    message: str
    reason: str = ""
    violations: tuple[Violation, ...] = ()
    retry_after_seconds: float | None = None
    request_id: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The message, its reason, and each field that was wrong."""
        lines = [f"{self.message} ({self.reason or self.code})"]
        lines += [f"  {each.field}: {each.description}" for each in self.violations]
        return "\n".join(lines)


def from_rpc(error: grpc.aio.AioRpcError) -> HoldfastError:
    """What *error* says, its details read; an answer without details keeps code and text."""
    first: Any = error.initial_metadata() or ()
    last: Any = error.trailing_metadata() or ()
    trailers: dict[str, str | bytes] = {**dict(first), **dict(last)}
    made = HoldfastError(error.code().name, error.details() or error.code().name)
    sent_id = trailers.get(_REQUEST_ID, "")
    made.request_id = sent_id if isinstance(sent_id, str) else ""
    raw = trailers.get(_DETAILS, b"")
    try:
        status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else b"")
    except DecodeError:
        return made
    _read(made, status)
    return made


def _read(made: HoldfastError, status: status_pb2.Status) -> None:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    request = error_details_pb2.RequestInfo()
    for detail in status.details:
        if detail.Unpack(info):
            made.reason, made.facts = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            made.violations = tuple(Violation(each.field, each.description) for each in bad.field_violations)
        elif detail.Unpack(retry):
            made.retry_after_seconds = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(request):
            made.request_id = request.request_id or made.request_id
