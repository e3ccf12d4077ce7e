"""An opened escrow as a directory: all of it for a restore, or the part that drills need where they look for it.

DIR/manifest.json, DIR/secrets/…, DIR/repository/…   as they were escrowed
DIR/opened.json                                      when, and of which file
DIR/pgbackrest.conf                                  the engine's file, with its places in DIR
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast.escrow.archive import MANIFEST, SUMS, Manifest, NotEscrow, sums
from holdfast.escrow.contents import (
    AUTHORITY,
    CA_OPTION,
    FILE_ROOTS,
    FOR_DRILLS,
    HEARTBEAT_KEY,
    REPOSITORY,
    option,
)
from holdfast.escrow.record import write

CONFIG, OPENED = "pgbackrest.conf", "opened.json"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a drill takes of an opened escrow. config: of the engine; opened_at: ISO 8601.

    file_roots: root keys of files; empty in an escrow that was made before there were any.
    """

    manifest: Manifest
    config: Path
    heartbeat_key: bytes
    opened_at: str
    file_roots: bytes


def write_out(
    directory: Path, manifest: Manifest, files: Mapping[str, bytes], *, sha256: str, now: datetime, for_drills: bool
) -> list[str]:
    """Write an escrow to *directory*, which must be empty or not there; the names written. Raises OSError."""
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty")
    wanted = {name: content for name, content in files.items() if not for_drills or name in FOR_DRILLS}
    document = {"opened_at": now.isoformat(), "sha256": sha256}
    extra = {
        MANIFEST: manifest.to_json(),
        CONFIG: config_in(directory, files[REPOSITORY].decode()).encode(),
        OPENED: (json.dumps(document, indent=1) + "\n").encode(),
    }
    if not for_drills:
        extra[SUMS] = sums(manifest)
    for name, content in {**wanted, **extra}.items():
        write(directory / name, content, mode=0o600)
    directory.chmod(0o700)
    return sorted(wanted)


def config_in(directory: Path, config: str) -> str:
    """The engine's file with everything it touches in *directory*: its usual places belong to another user."""
    authority = option(config, CA_OPTION)
    if authority:
        config = config.replace(f"{CA_OPTION}={authority}", f"{CA_OPTION}={directory / AUTHORITY}")
    return config.replace("[global]\n", f"[global]\nlock-path={directory}/lock\nspool-path={directory}/spool\n", 1)


def for_drill(directory: Path) -> Opened:
    """What write_out left there for drills, unchanged. Raises NotEscrow and OSError; FileNotFoundError without one."""
    document = json.loads((directory / OPENED).read_text(encoding="utf-8"))
    if not isinstance(document, dict) or "opened_at" not in document:
        raise NotEscrow(f"{OPENED} is not what was written there")
    for path in (directory, *directory.rglob("*")):
        if path.stat().st_mode & 0o077:
            raise NotEscrow(f"others than its owner may read {path}")
    manifest = Manifest.from_json((directory / MANIFEST).read_bytes())
    for name in FOR_DRILLS:
        if name not in manifest.files:
            continue
        if hashlib.sha256((directory / name).read_bytes()).hexdigest() != manifest.files[name]:
            raise NotEscrow(f"{name} is not what was escrowed")
    config = directory / CONFIG
    wanted = config_in(directory, (directory / REPOSITORY).read_text(encoding="utf-8"))
    if config.read_text(encoding="utf-8") != wanted:
        raise NotEscrow(f"{CONFIG} is not what was escrowed")
    key = (directory / HEARTBEAT_KEY).read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    roots = (directory / FILE_ROOTS).read_bytes() if FILE_ROOTS in manifest.files else b""
    return Opened(manifest, config, key, str(document["opened_at"]), roots)


def close(directory: Path) -> bool:
    """Remove an opened escrow; whether there was one. Raises NotEscrow for a directory that is none."""
    if not directory.exists():
        return False
    if not (directory / OPENED).is_file() and any(directory.iterdir()):
        raise NotEscrow(f"{directory} is no opened escrow, and nothing in it was removed")
    shutil.rmtree(directory)
    return True
