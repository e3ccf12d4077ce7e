"""`holdfast files put|get|ls|rm`."""

import mimetypes
import sys
from datetime import UTC
from pathlib import Path

import click

from holdfast.cli.run import Options, say, table, verb
from holdfast.files.v1 import file_service_pb2 as pb


@click.group()
def files() -> None:
    """Files of the signed-in user."""


@files.command()
@click.argument("local", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("path", default="")
@click.option("--new", is_flag=True, help="Refuse to replace a file of that path.")
@verb
async def put(options: Options, local: Path, path: str, new: bool) -> None:
    """Store the file LOCAL under PATH (by default its own name)."""
    kind = mimetypes.guess_type(local.name)[0] or "application/octet-stream"
    async with options.client() as client:
        file = await client.files.upload(path or local.name, local, content_type=kind, if_none_match="*" if new else "")
    options.show(_shown(file), f"{file.path}  {file.size_bytes} bytes  generation {file.generation}")


@files.command()
@click.argument("path")
@click.argument("local", default="", type=click.Path(path_type=Path))
@verb
async def get(options: Options, path: str, local: Path) -> None:
    """Fetch the file at PATH into LOCAL (by default its own name; - for stdout)."""
    async with options.client() as client:
        file = await client.files.find(path)
        if str(local) == "-":
            async for chunk in client.files.download(file.name):
                sys.stdout.buffer.write(chunk)
            return
        target = local if local.name else Path(Path(path).name)
        # Written beside the target and renamed when whole and checked: half a file never has its name.
        fresh = target.with_name(f".{target.name}.part")
        with fresh.open("wb") as sink:
            async for chunk in client.files.download(file.name):
                sink.write(chunk)
        fresh.replace(target)
    options.show(_shown(file) | {"local": str(target)})
    say(f"{target}: {file.size_bytes} bytes.")


@files.command()
@click.argument("prefix", default="")
@verb
async def ls(options: Options, prefix: str) -> None:
    """List files whose path begins with PREFIX."""
    async with options.client() as client:
        found = [file async for file in client.files.list(prefix)]
    listed = table("size", "changed", "path")
    for file in found:
        listed.add_row(str(file.size_bytes), _time(file), file.path)
    options.show([_shown(file) for file in found], listed)


@files.command()
@click.argument("path")
@verb
async def rm(options: Options, path: str) -> None:
    """Delete the file at PATH."""
    async with options.client() as client:
        file = await client.files.find(path)
        await client.files.delete(file.name, etag=file.etag)
    options.show({"deleted": file.path})
    say(f"Deleted {file.path}.")


def _time(file: pb.File) -> str:
    return file.update_time.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds")


def _shown(file: pb.File) -> dict[str, object]:
    return {
        "name": file.name,
        "path": file.path,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256.hex(),
        "content_type": file.content_type,
        "generation": file.generation,
        "etag": file.etag,
        "update_time": _time(file),
    }
