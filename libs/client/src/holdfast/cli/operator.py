"""The way to the local operator socket, and how its commands end.

It needs neither edge, sign-in, nor the production database. The socket is the one of `--socket`,
HOLDFAST_OPERATOR_SOCKET, or `operator_socket` of stack.json. Exit codes are those of holdfast.cli; 1 means that the
backup or drill ended badly, or that the status has warnings.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc.experimental import ChannelOptions
from rich.console import Console

from holdfast.cli import run
from holdfast.errors import HoldfastError, from_rpc

ENDED_BADLY = run.FAILED
CALL_SECONDS = 120.0
# With gRPC's own thread a channel could never be closed when an interrupt came just before that thread had begun.
_OPTIONS = [(ChannelOptions.SingleThreadedUnaryStream, 1)]
# Where there is no terminal a table may be as wide as it likes: nothing is cut that a script might look for.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

socket_option = click.option(
    "--socket",
    "path",
    envvar="HOLDFAST_OPERATOR_SOCKET",
    default="",
    help="The operator socket (default: of stack.json).",
)


def _asked_json(context: click.Context, _: click.Parameter, value: bool) -> bool:
    """The flag here or before the verb."""
    return value or _options(context).as_json


def _options(context: click.Context) -> run.Options:
    return context.find_object(run.Options) or run.Options("", "", "", False)


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_asked_json, help="Print JSON, and nothing else, on stdout."
)


class Verb(click.Command):
    """A verb whose words are sent, and so have to be UTF-8; an interrupt ends it as it ends any verb of cli.run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; a usage error for text that cannot be sent. Paths of files may be any bytes."""
        rest = super().parse_args(ctx, args)
        for one in self.params:
            given = ctx.params.get(one.name or "")
            if one.type is click.STRING and isinstance(given, str) and not _utf8(given):
                raise click.BadParameter("is not UTF-8", ctx=ctx, param=one)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but for the exit code of an interrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(run.INTERRUPTED)


class Verbs(click.Group):
    """A group whose commands are of class Verb."""

    command_class = Verb


def _utf8(given: str) -> bool:
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def goes_on(name: str, how: str) -> Iterator[None]:
    """Around the following of work that an interrupt does not end. how: what can be done about it by then."""
    try:
        yield
    except KeyboardInterrupt:
        run.say(f"{name} goes on. {how}")
        raise


class Gone(click.ClickException):
    """The service cannot be reached."""

    exit_code = run.UNREACHABLE


class Refused(click.ClickException):
    """The service refused: what, which fields, when to try again, and the request id that finds it in the log."""

    def __init__(self, fault: HoldfastError) -> None:
        lines = [f"{fault.message} [{fault.reason}]" if fault.reason else fault.message]
        lines += [f"  {each.field}: {each.description}" for each in fault.violations]
        if fault.retry_after_seconds is not None:
            lines.append(f"Try again in {fault.retry_after_seconds:g} s.")
        if fault.request_id:
            lines.append(f"Request id: {fault.request_id}")
        super().__init__("\n".join(lines))
        self.exit_code = run.EXITS.get(fault.code, run.REFUSED)  # type: ignore[misc]  # click's own classes do the same


def socket_path(given: str) -> str:
    """The operator socket's path. Raises Gone when nothing names one."""
    if given:
        return given
    try:
        return str(_options(click.get_current_context()).stack()["operator_socket"])
    except click.ClickException as fault:
        raise Gone(f"{fault.message} Or name the socket by --socket.") from None


@contextmanager
def connected(given: str) -> Iterator[grpc.Channel]:
    """A channel to the operator socket; gRPC's errors come out as Gone and Refused."""
    path = socket_path(given)
    with grpc.insecure_channel(f"unix:{path}", options=_OPTIONS) as channel:
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


class Forbidden(click.ClickException):
    """This user may not open the socket."""

    exit_code = run.REFUSED


def _away(details: str, path: str) -> click.ClickException:
    """gRPC's words tell nobody what to do."""
    if "Permission denied" in details:
        return Forbidden(f"You may not open {path}: run this as root or as the user that the backup service runs as.")
    if "Connection refused" in details or "No such file" in details:
        hint = "see whether it runs (make status, make logs S=backup)"
        return Gone(f"The backup service does not answer on {path}: {hint}.")
    return Gone(
        f"The backup service does not answer on {path} any more: {details}. When it runs again, `holdfast drill list`"
        " and `holdfast backup list` tell what became of what was begun."
    )


def _told(error: grpc.RpcError, path: str) -> click.ClickException:
    call: Any = error
    code, details = call.code(), str(call.details())
    raw = next((value for key, value in call.trailing_metadata() or () if key == "grpc-status-details-bin"), None)
    if raw is None and code is grpc.StatusCode.UNAVAILABLE:
        return _away(details, path)
    return Refused(from_rpc(call))
