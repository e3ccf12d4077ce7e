"""`holdfast evidence status|key|export|verify`; verify needs neither a service nor a network."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click

from holdfast.backup.v1 import evidence_service_pb2 as pb
from holdfast.backup.v1.evidence_service_pb2_grpc import EvidenceServiceStub
from holdfast.cli import run
from holdfast.cli.operator import (
    CALL_SECONDS,
    ENDED_BADLY,
    Verbs,
    connected,
    console,
    json_option,
    print_json,
    socket_option,
)
from holdfast.cli.show import moment

TITLE = "Backups and restore drills: the evidence"
_PAGES = (".html", ".htm")


class Disproved(click.ClickException):
    """What was read is not what was signed."""

    exit_code = ENDED_BADLY


@click.group(cls=Verbs)
def evidence() -> None:
    """Signed records of backups and drills: show, export, and verify them offline."""


@evidence.command()
@json_option
@socket_option
def status(as_json: bool, path: str) -> None:
    """How many records there are and where they have arrived; exit code 1 when there are warnings."""
    found = _status(path)
    if as_json:
        print_json(found)
    else:
        console.print(f"{found.count} records in chain {found.chain or '(not begun)'}, last {found.head}", markup=False)
        for mirror in found.mirrors:
            fault = f": {mirror.fault}" if mirror.fault else ""
            console.print(f"{mirror.mirror} has {mirror.count}{fault}", markup=False)
        for one in found.older_chains:
            span = f"mirrored {moment(one.begin_time)} to {moment(one.end_time)}"
            console.print(f"older chain {one.chain}: {one.count} records in the database, {span}", markup=False)
        if found.older_chains_fault:
            console.print(f"older chains: not known now: {found.older_chains_fault}", markup=False)
        for warning in found.warnings:
            console.print(f"warning: {warning}", markup=False)
    if found.warnings:
        sys.exit(ENDED_BADLY)


@evidence.command()
@json_option
@socket_option
def key(as_json: bool, path: str) -> None:
    """Print the public keys, as PEM: give them to whoever verifies."""
    found = _status(path)
    if as_json:
        print_json({"public_keys": found.public_keys})
    else:
        click.echo(found.public_keys, nl=False)


@evidence.command()
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option(
    "--chain", "chain", default="", metavar="ID", help="An older chain of `evidence status`, from the database."
)
@click.option(
    "--key", "key_files", multiple=True, metavar="PEM", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key that signed the older chain, where this installation has another; may be repeated.",
)  # fmt: skip
@click.option("--customer", is_flag=True, help="Leave out internals; as a page when FILE ends in .html.")
@click.option("--title", default=TITLE, show_default=True, help="Of the page.")
@click.option("--force", is_flag=True, help="Replace FILE when it exists.")
@json_option
@socket_option
def export(
    output: Path,
    chain: str,
    key_files: tuple[Path, ...],
    customer: bool,
    title: str,
    force: bool,
    as_json: bool,
    path: str,
) -> None:
    """Write all evidence to FILE, verified before it has that name."""
    as_page = output.suffix.lower() in _PAGES
    if as_page and not customer:
        raise click.UsageError("A page is for customers: add --customer, or name FILE otherwise, e.g. evidence.jsonl.")
    if output.exists() and not force:
        raise click.UsageError(f"{output} exists: add --force to replace it.")
    with _written(output) as file:
        asked = pb.ExportEvidenceRequest(without_internal=customer, chain=chain)
        found = _checked(output, file, _parsed(_receive(path, file, asked), *(one.read_bytes() for one in key_files)))
        if as_page:
            from holdfast.evidence.page import page

            file.seek(0)
            text = page(found, file.read(), title=title)
            file.seek(0)
            file.truncate()
            file.write(text.encode())
    told = {"output": str(output), "count": found.count, "head": found.head, "exported_at": found.exported_at}
    if as_json:
        print_json(told)
    else:
        run.say(f"{output}: {found.count} records, exported {found.exported_at}.")


@evidence.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key", "key_files", multiple=True, envvar="HOLDFAST_EVIDENCE_KEY", metavar="PEM",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key, from `holdfast evidence key`; may be repeated. Default: of the stack that runs here.",
)  # fmt: skip
@json_option
def verify(file: Path, key_files: tuple[Path, ...], as_json: bool) -> None:
    """Check an export offline; exit code 0 only when every byte of FILE is what was signed."""
    from holdfast import evidence as format

    keys = _parsed(*(one.read_bytes() for one in key_files or (_own_key(),)))
    try:
        with file.open("rb") as lines:
            found = format.verify(format.lines_of(lines), keys)
    except format.NotEvidence as fault:
        if as_json:
            print_json({"ok": False, "file": str(file), "line": fault.line, "fault": fault.fault})
            sys.exit(ENDED_BADLY)
        raise Disproved(
            f"{file} is NOT what was signed: {fault}\nDo not rely on it; get the export again from where it was made."
        ) from None
    told = _told(found)
    if as_json:
        print_json({"ok": True, "file": str(file), **told})
        return
    click.echo(f"{file} is what was signed: {found.count} records, none changed, missing or added.")
    for name, value in told.items():
        click.echo(f"  {name.replace('_', ' '):<18} {value}")


def _told(found: Any) -> dict[str, Any]:
    last = found.last_good_drill
    shown = None if last is None else {"sequence": last.sequence, "subject": last.subject, "at": last.at}
    return {
        "count": found.count,
        "exported_at": found.exported_at,
        "head": found.head,
        "key": found.key,
        "internal": found.internal,
        "kinds": dict(found.kinds),
        "last_good_drill": shown,
        "failures_since": [f"{one.sequence} {one.kind} {one.subject}" for one in found.failures_since],
    }


def _status(path: str) -> pb.GetEvidenceStatusResponse:
    with connected(path) as channel:
        stub = EvidenceServiceStub(channel)
        return stub.GetEvidenceStatus(pb.GetEvidenceStatusRequest(), timeout=CALL_SECONDS)


def _checked(output: Path, file: IO[bytes], keys: Any) -> Any:
    """What *file* holds. Raises Disproved for what none of *keys* signed."""
    from holdfast import evidence as format

    file.seek(0)
    try:
        return format.verify(format.lines_of(file), keys)
    except format.NotEvidence as fault:
        named = " Name the public key of the older chain by --key PEM." if "another key" in fault.fault else ""
        raise Disproved(
            f"What the service sent is not whole evidence ({fault}). {output} was not written.{named}"
        ) from None


def _parsed(*pems: bytes) -> Any:
    from holdfast import evidence as format

    try:
        return format.parse_keys(b"\n".join(pems))
    except ValueError as fault:
        raise click.UsageError(f"The key cannot be used: {fault}.") from None


def _receive(path: str, file: IO[bytes], asked: pb.ExportEvidenceRequest) -> bytes:
    """Write the export to *file*; the public keys."""
    with connected(path) as channel:
        stub = EvidenceServiceStub(channel)
        for piece in stub.ExportEvidence(asked):
            file.write(piece.lines)
        return stub.GetEvidenceStatus(pb.GetEvidenceStatusRequest(), timeout=CALL_SECONDS).public_keys.encode()


@contextmanager
def _written(output: Path) -> Iterator[IO[bytes]]:
    """A file that becomes *output* when all went well, and leaves nothing otherwise."""
    fresh = output.with_name(f".{output.name}.part")
    try:
        with open(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(output)
    except OSError as fault:
        raise click.ClickException(f"{output} cannot be written: {fault.strerror}.") from None
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()


def _own_key() -> Path:
    """The public key beside the stack that runs here. Raises UsageError when nothing names one."""
    try:
        options = click.get_current_context().find_object(run.Options) or run.Options("", "", "", False)
        return Path(str(options.stack()["evidence_key_file"]))
    except (click.ClickException, KeyError):
        raise click.UsageError(
            "Name the public key by --key PEM; whoever runs the installation has it by `holdfast evidence key`."
        ) from None
