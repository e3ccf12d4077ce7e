"""`holdfast keys derive`: from the root that only auth holds, each service's own keys."""

import asyncio
import os
from pathlib import Path

import click

from holdfast.cli.run import Options, say, verb
from holdfast.usertoken.keys import derive_keys, parse_keys, write_keys

AUDIENCES = ("auth", "files", "events", "backup")
CALLERS = ("files", "events", "backup")


@click.group()
def keys() -> None:
    """Key material of the user token."""


@keys.command()
@click.option(
    "--root", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="auth's root_keys."
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Gets one folder a service."
)
@click.option(
    "--audience", multiple=True, metavar="NAME", help="Only these, e.g. your own service; default: Holdfast's four."
)
@verb
async def derive(options: Options, root: Path, out: Path, audience: tuple[str, ...]) -> None:
    """Write OUT/<audience>/user_token_keys, and the service credentials of Holdfast's own services, mode 0600.

    Run it wherever the root may be seen; mount to each service its own folder and nothing else.
    """
    roots = parse_keys(await asyncio.to_thread(root.read_bytes))
    written = []
    for name in audience or AUDIENCES:
        written.append(_write(out / name / "user_token_keys", write_keys(derive_keys(roots, name))))
        if name in CALLERS:
            credential = write_keys(derive_keys(roots, f"service/{name}"))
            written.append(_write(out / name / "service_credential", credential))
    options.show({"written": written}, "\n".join(written))
    say("The root itself stays where it is: only auth needs it.")


def _write(path: Path, content: bytes) -> str:
    """Put *content* at *path* in one step, so that a service that watches the file never reads half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)
    return str(path)
