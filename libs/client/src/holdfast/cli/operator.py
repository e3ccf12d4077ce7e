"""The way to the local operator socket, and how its commands end.

It needs neither edge, sign-in, nor the production database. The socket is found by `--socket`,
HOLDFAST_OPERATOR_SOCKET, or `operator_socket` in stack.json (HOLDFAST_STACK, else .holdfast/stack.json here or in a
directory above). Exit codes: 0 done · 1 the backup or drill ended badly, or there are warnings · 2 wrong command line ·
3 refused, the reason is printed · 4 the service cannot be reached.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from rich.console import Console

ENDED_BADLY, REFUSED, UNREACHABLE = 1, 3, 4
CALL_SECONDS = 120.0
console = Console(highlight=False, soft_wrap=True)

socket_option = click.option(
    "--socket",
    "path",
    envvar="HOLDFAST_OPERATOR_SOCKET",
    default="",
    help="The operator socket (default: of stack.json).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")


class Gone(click.ClickException):
    """The service cannot be reached."""

    exit_code = UNREACHABLE


class Refused(click.ClickException):
    """The service refused; reason is a name of holdfast.common.v1.ErrorReason."""

    exit_code = REFUSED

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(f"{message} [{reason}]" if reason else message)


def socket_path(given: str) -> str:
    """The operator socket's path. Raises Gone when nothing names one."""
    if given:
        return given
    described = os.environ.get("HOLDFAST_STACK", "")
    here = Path.cwd()
    candidates = (
        [Path(described)] if described else [root / ".holdfast" / "stack.json" for root in (here, *here.parents)]
    )
    for path in candidates:
        if path.is_file():
            return str(json.loads(path.read_text(encoding="utf-8"))["operator_socket"])
    raise Gone("No stack.json found: is the stack up? Name the socket with --socket.")


@contextmanager
def connected(given: str) -> Iterator[grpc.Channel]:
    """A channel to the operator socket; gRPC's errors come out as Gone and Refused."""
    path = socket_path(given)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise _told(error, path) from None


def document(message: Message) -> dict[str, Any]:
    """*message* as JSON with the contract's field names, every field present."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def print_json(value: Message | dict[str, Any]) -> None:
    """One object on one line of stdout."""
    found = document(value) if isinstance(value, Message) else value
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def reason_of(status: status_pb2.Status) -> str:
    """The reason in *status*, "" when it has none."""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            return str(info.reason)
    return ""


def _told(error: grpc.RpcError, path: str) -> click.ClickException:
    call: Any = error
    code, details = call.code(), str(call.details())
    raw = next((value for key, value in call.trailing_metadata() or () if key == "grpc-status-details-bin"), None)
    if raw is None and code is grpc.StatusCode.UNAVAILABLE:
        return Gone(f"The backup service does not answer on {path}: {details}")
    reason = reason_of(status_pb2.Status.FromString(raw)) if raw else ""
    return Refused(details or code.name, reason)
