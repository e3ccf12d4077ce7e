"""`holdfast escrow export|verify|open|close|status|keygen`: needs neither a service, a database, nor a network.

Exit codes are those of holdfast.cli; 1: the escrow is no whole one, is stale, or there is none; 3: this key does not
open it, or a file may not be read or written.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from holdfast.cli import escrow_files as files
from holdfast.cli import escrow_keys as keys
from holdfast.cli import run
from holdfast.cli.operator import ENDED_BADLY, json_option, print_json

state_option = click.option(
    "--state", "state", default="", envvar="HOLDFAST_STATE", metavar="DIR",
    help="State directory of the installation; default: state_dir of stack.json, or .holdfast/state here or above.",
)  # fmt: skip
key_option = click.option(
    "--key", "key", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PEM",
    help="An operator's private key. Its passphrase is asked for, or in HOLDFAST_ESCROW_PASSPHRASE.",
)  # fmt: skip
file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


class Refused(click.ClickException):
    """It may not be done, or not with this."""

    exit_code = run.REFUSED


class Broken(click.ClickException):
    """What was read is no whole escrow."""

    exit_code = ENDED_BADLY


@click.group()
def escrow() -> None:
    """Root keys and the backups' pass in one file that only operators' own keys open."""


@escrow.command()
@click.option(
    "--recipient", "people", multiple=True, metavar="CERT",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An operator's certificate (RSA, PEM); once for each. Two or more, or one lost key loses all.",
)  # fmt: skip
@click.option("--output", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE, and let it lie beside the state or in the repository.")
@state_option
@json_option
def export(people: tuple[Path, ...], output: Path, force: bool, state: str, as_json: bool) -> None:
    """Write what a restore needs to FILE, for the recipients alone. Run it again after each rotation."""
    from holdfast import escrow as format
    from holdfast.escrow import record

    if not people:
        raise click.UsageError("An escrow that nobody can open is none: name each operator by --recipient CERT.")
    installation, now = files.installation(state), datetime.now(UTC)
    if not force:
        files.apart(output, installation)
    with _told(output):
        found = format.gather(installation)
        certificates = [keys.certificate(path, now) for path in people]
        made = files.sealed(found, certificates, now)
        record.write(output, made.text, mode=0o600)
        prints = tuple(one.fingerprint for one in made.manifest.recipients)
        record.note_exported(installation, found, record.Exported(now, made.sha256, prints, {}))
        record.note_installed(installation, now=now)
    names = [f"{one.subject} sha256 {one.fingerprint}" for one in made.manifest.recipients]
    if as_json:
        print_json({"output": str(output), "sha256": made.sha256, "made_at": made.manifest.made_at,
                    "recipients": list(prints), "files": sorted(made.manifest.files)})  # fmt: skip
        return
    click.echo(f"{output}: {len(found)} files for {', '.join(names)}\nsha256 {made.sha256}")
    if len(names) == 1:
        run.say("Only one person can open it: who loses that key loses the escrow. Name a second --recipient.")
    run.say(
        f"Next: holdfast escrow verify {output} --key KEY, with a recipient's key. Then carry it away from this host"
        "\nand from the repository, to two places; note the sha256 elsewhere, and delete this copy."
    )


@escrow.command()
@file_argument
@key_option
@state_option
@json_option
def verify(file: Path, key: Path, state: str, as_json: bool) -> None:
    """Open FILE, check every byte, and compare it with what is installed here, when anything is."""
    from holdfast.escrow import record

    manifest, contents, sha256 = _unsealed(file, key)
    here = files.installation(state) if state or files.found() else None
    newest: bool | None = None
    compared: dict[str, str] = {}
    with _told(file):
        if here is not None:
            compared = files.compared(contents, here)
            now = datetime.now(UTC)
            newest = record.note_verified(here, sha256, now=now) if not files.stale(compared) else None
            record.note_installed(here, now=now)
    stale = files.stale(compared)
    told: dict[str, Any] = {
        "ok": not stale, "file": str(file), "sha256": sha256, "made_at": manifest.made_at, "host": manifest.stack,
        "stanza": manifest.stanza, "recipients": [one.fingerprint for one in manifest.recipients],
        "compared": compared, "newest": newest,
    }  # fmt: skip
    if as_json:
        print_json(told)
    else:
        click.echo(
            f"{file} is whole: made {manifest.made_at} on {manifest.stack}, {len(contents)} files\nsha256 {sha256}"
        )
        for name in sorted(manifest.files):
            click.echo(f"  {name:<34} {compared.get(name, '')}".rstrip())
        run.say(_outcome(compared, stale))
    if stale:
        sys.exit(ENDED_BADLY)


@escrow.command("open")
@file_argument
@key_option
@click.option("--output", metavar="DIR", type=click.Path(path_type=Path), help="Where to: empty, or not there yet.")
@click.option("--for-drills", is_flag=True, help="What drills need, where the running stack's deep drills look for it.")
@json_option
def open_(file: Path, key: Path, output: Path | None, for_drills: bool, as_json: bool) -> None:
    """Write what is in FILE to a directory, for a restore or for deep drills."""
    from holdfast.escrow import place

    if (output is None) is not for_drills:
        raise click.UsageError("Say where to: --output DIR for a restore, or --for-drills.")
    manifest, contents, sha256 = _unsealed(file, key)
    directory = files.drop_in() if output is None else output.absolute()
    with _told(directory):
        if for_drills:
            place.close(directory)
        written = place.write_out(
            directory, manifest, contents, sha256=sha256, now=datetime.now(UTC), for_drills=for_drills
        )
    if as_json:
        print_json({"directory": str(directory), "sha256": sha256, "made_at": manifest.made_at, "files": written})
        return
    click.echo(f"{directory}: {', '.join(written)}")
    run.say(files.after_drills() if for_drills else files.after_open(directory, manifest.stanza))


@escrow.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@json_option
def close(directory: Path | None, as_json: bool) -> None:
    """Remove an opened escrow: DIRECTORY, or the one that deep drills use."""
    from holdfast.escrow import place

    where = directory or files.drop_in()
    with _told(where):
        was = place.close(where)
    if as_json:
        print_json({"directory": str(where), "removed": was})
    else:
        click.echo(f"{where} is removed." if was else f"{where} is not there.")


@escrow.command()
@state_option
@json_option
def status(state: str, as_json: bool) -> None:
    """When the newest escrow was exported, and whether it holds what is installed; exit code 1 when not."""
    from holdfast.escrow import record

    installation = files.installation(state)
    with _told(installation.state):
        record.note_installed(installation, now=datetime.now(UTC))
    standing = record.standing(installation.records)
    if as_json:
        print_json(files.document(standing))
    else:
        click.echo(files.words(standing))
    if not standing.good:
        sys.exit(ENDED_BADLY)


@escrow.command()
@click.option("--output", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default="operator", show_default=True, help="Of the person; also of the two files.")
@json_option
def keygen(output: Path, name: str, as_json: bool) -> None:
    """Make a key pair to try escrows with; for real ones, each operator makes it on a machine of their own.

    The key's passphrase is asked for, or in HOLDFAST_ESCROW_PASSPHRASE.
    """
    with _told(output):
        key, certificate = keys.key_pair(output, name)
    if as_json:
        print_json({"key": str(key), "certificate": str(certificate)})
        return
    click.echo(f"{key}\n{certificate}")
    run.say(
        "To try with. A real key never touches this host: openssl req -x509 -newkey rsa:4096 -days 3650 -subj /CN=NAME"
        f"\n-keyout NAME.key -out NAME.pem. Next: holdfast escrow export --recipient {certificate} --output FILE"
    )


def _unsealed(file: Path, key: Path) -> tuple[Any, dict[str, bytes], str]:
    """Manifest, contents and SHA-256 of FILE. Ends with 1 when it is no whole escrow, with 3 for a wrong key."""
    import hashlib

    from holdfast import escrow as format

    with _told(file):
        text = file.read_bytes()
        try:
            manifest, contents = format.unseal(text, keys.private_key(key))
        except format.NotEscrow as fault:
            raise Broken(f"{file} is NOT a whole escrow: {fault}. Take another copy; do not rely on it.") from None
    return manifest, contents, hashlib.sha256(text).hexdigest()


def _outcome(compared: dict[str, str], stale: list[str]) -> str:
    if not compared:
        return "Nothing is installed here to compare it with. Next: holdfast escrow open FILE --key KEY --output DIR"
    if not stale:
        return "It holds what is installed here."
    return f"Stale: {', '.join(stale)}. Next: holdfast escrow export --recipient CERT… --output FILE, then verify it."


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what goes wrong with files and keys into words and exit code 3."""
    from holdfast import escrow as format

    try:
        yield
    except (format.Missing, format.Unfit, format.WrongKey) as fault:
        raise Refused(str(fault)) from None
    except format.NotEscrow as fault:
        raise Refused(f"{fault}.") from None
    except PermissionError as fault:
        raise Refused(f"{fault.filename or path}: not yours to read or write. Run this as root.") from None
    except OSError as fault:
        raise Refused(f"{fault.filename or path}: {fault.strerror or fault}.") from None
