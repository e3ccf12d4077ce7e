"""What every verb shares: which stack, how to answer, and how a failure ends."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec

import click
from rich.console import Console
from rich.table import Table

from holdfast.cli.state import SavedSession
from holdfast.client import Client
from holdfast.errors import HoldfastError

P = ParamSpec("P")
STACK = Path(".holdfast") / "stack.json"
FAILED, REFUSED, UNREACHABLE, NOT_SIGNED_IN, SERVER_FAULT, INTERRUPTED = 1, 3, 4, 5, 6, 130
EXITS = {
    "UNAUTHENTICATED": NOT_SIGNED_IN,
    "UNAVAILABLE": UNREACHABLE,
    "DEADLINE_EXCEEDED": UNREACHABLE,
    "INTERNAL": SERVER_FAULT,
    "UNKNOWN": SERVER_FAULT,
    "DATA_LOSS": FAILED,
    "CANCELLED": FAILED,
}
"""Exit code by gRPC code; REFUSED for the others. 2 is click's, for wrong usage."""
ADVICE = {
    NOT_SIGNED_IN: "Sign in with `holdfast login`.",
    UNREACHABLE: "Is the stack up? `holdfast` cannot tell; `make status` can. Otherwise wait a moment and try again.",
    SERVER_FAULT: "Tell whoever runs the installation the request id.",
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options that stand before the verb."""

    stack_file: str
    edge: str
    ca_file: str
    as_json: bool

    def stack(self) -> dict[str, Any]:
        """The running stack as its stack.json describes it. Ends the program when there is none."""
        path = Path(self.stack_file) if self.stack_file else _nearest()
        if path is None:
            raise click.ClickException(
                "There is no .holdfast/stack.json here or above. Run `make up`, or name one by --stack."
            )
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as fault:
            raise click.ClickException(f"Cannot read {path}: {fault}") from None
        if not isinstance(found, dict):
            raise click.ClickException(f"{path} is not a stack file.")
        return found

    def edge_url(self) -> str:
        """Where the edge is."""
        return self.edge or str(self.stack()["edge_url"])

    def client(self) -> Client:
        """A client of the edge with the session kept for it."""
        url = self.edge_url()
        authority = self.ca_file or (None if self.edge else str(self.stack()["ca_file"]))
        return Client(url, ca_file=authority, store=SavedSession(url))

    def show(self, value: Mapping[str, object] | Sequence[Mapping[str, object]], text: str | Table = "") -> None:
        """Answer: *value* as JSON when asked, else *text*."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False, default=str))
        elif isinstance(text, Table):
            Console().print(text)
        elif text:
            click.echo(text)


def say(text: str) -> None:
    """A message for the person, on stderr."""
    click.echo(text, err=True)


def table(*columns: str) -> Table:
    """An empty table in the house's look."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def verb(function: Callable[Concatenate[Options, P], Awaitable[None]]) -> Callable[P, None]:
    """A click callback of an async verb: gets the Options first, and turns failures into messages and exit codes."""

    @wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        options = click.get_current_context().find_object(Options) or Options("", "", "", False)
        if named.pop("json_here", False):
            options = replace(options, as_json=True)

        async def go() -> None:
            await function(options, *arguments, **named)

        try:
            asyncio.run(go())
        except HoldfastError as fault:
            fail(fault)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            sys.exit(0)
        except (OSError, ValueError) as fault:
            raise click.ClickException(str(fault)) from None

    flag = click.option("--json", "json_here", is_flag=True, help="Print JSON, and nothing else, on stdout.")
    decorated: Callable[P, None] = flag(run)
    return decorated


def fail(fault: HoldfastError) -> NoReturn:
    """Say what went wrong, what to do, and the request id; end with the code's exit code."""
    code = EXITS.get(fault.code, REFUSED)
    say(f"Error: {fault}")
    if code in ADVICE and fault.reason not in ("SIGN_IN_FAILED", "EMAIL_NOT_VERIFIED"):
        say(ADVICE[code])
    if fault.retry_after_seconds is not None:
        say(f"Try again in {fault.retry_after_seconds:g} s.")
    if fault.request_id:
        say(f"Request id: {fault.request_id}")
    sys.exit(code)


def _nearest() -> Path | None:
    here = Path.cwd()
    return next((folder / STACK for folder in (here, *here.parents) if (folder / STACK).is_file()), None)
