"""The ports of one stack: defaults, chosen anew once if taken, then remembered; a later clash names its holder."""

import json
import os
import random
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from deploy.stack.layout import service_ids

DEFAULTS: Mapping[str, int] = {
    "edge": 8443,
    "redirect": 8080,
    "edge_metrics": 9901,
    "auth_metrics": 9461,
    "files_metrics": 9462,
    "events_metrics": 9463,
    "backup_metrics": 9464,
    "s3": 8333,
    "s3_grpc": 18333,
    "s3_master": 9333,
    "s3_master_grpc": 19333,
    "s3_volume": 8334,
    "s3_volume_grpc": 18334,
    "s3_filer": 8335,
    "s3_filer_grpc": 18335,
    "smtp": 2525,
    "prometheus": 9470,
}
SOCKETS = Path("/tmp")  # fixed in SeaweedFS
CHOICE = range(20_000, 30_000)  # below Linux's ephemeral range, so that no outgoing connection sits on one of them


class PortTaken(Exception):
    """A remembered port is held by something that is not ours, or none is free, or what was remembered is broken; the
    message says which.
    """


def local_sockets(port: int) -> list[tuple[Path, int]]:
    """Where SeaweedFS keeps a Unix socket for gRPC port *port*, under names it fixes itself (tried): each that is
    there, and its owner's user id.
    """
    found = []
    for path in SOCKETS.glob(f"seaweedfs-*grpc-{port}.sock"):
        with suppress(FileNotFoundError):
            found.append((path, path.lstat().st_uid))
    return found


def strangers(port: int) -> list[str]:
    """Those of another user: the store could neither use nor replace them."""
    return [str(path) for path, owner in local_sockets(port) if owner != service_ids()[0]]


def forget_sockets(ports: Iterable[int]) -> None:
    """Remove those of our own, which a killed SeaweedFS leaves behind."""
    for port in ports:
        for path, owner in local_sockets(port):
            if owner == service_ids()[0]:
                path.unlink(missing_ok=True)


def free(port: int) -> bool:
    """Whether 127.0.0.1:*port* can be bound now and nothing of another user stands for it."""
    if strangers(port):
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def remembered(path: Path) -> dict[str, int]:
    """Port by name as kept in *path*; none when there is no such file. Raises PortTaken when it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except ValueError as fault:
        raise PortTaken(f"{path} cannot be read: {fault}. Mend or remove it, then make up again.") from None


def assigned(path: Path, *, defaults: bool) -> dict[str, int]:
    """The remembered ports, each missing one chosen now and remembered.

    defaults: whether the well-known numbers are tried first; a stack of a test leaves them to `make up`.
    """
    kept = remembered(path)
    ports = {name: kept[name] for name in DEFAULTS if name in kept}
    for name, default in DEFAULTS.items():
        if name not in ports:
            ports[name] = default if defaults and free(default) else _another(ports.values())
    if ports != kept:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(ports, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)
    return ports


def _another(taken: Iterable[int]) -> int:
    taken = set(taken)
    for port in random.sample(CHOICE, k=500):
        if port not in taken and free(port):
            return port
    raise PortTaken(f"no free port found between {CHOICE.start} and {CHOICE.stop}")


def listeners() -> dict[int, tuple[str, int]]:
    """Every listening TCP port of this network namespace: its address in hexadecimal as the kernel writes it, and its
    socket's inode.
    """
    found: dict[int, tuple[str, int]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                address, port = words[1].split(":")
                found[int(port, 16)] = (address, int(words[9]))
    return found


def owner_of(inode: int) -> int | None:
    """The process that holds the socket; None when it belongs to a user whose processes we may not look into."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if any(os.readlink(link) == f"socket:[{inode}]" for link in (entry / "fd").iterdir()):
                return int(entry.name)
        except OSError:  # gone meanwhile, or another user's
            continue
    return None


def command_of(pid: int, length: int = 120) -> str:
    """The command line of a process, shortened; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:length]
    except OSError:
        return ""


def holder(port: int) -> str:
    """Who listens on *port*, for a person."""
    if left := strangers(port):
        return f"another user's {', '.join(left)}"
    listener = listeners().get(port)
    if listener is None:
        return "nobody now"
    pid = owner_of(listener[1])
    return "another user's process" if pid is None else f"process {pid}: {command_of(pid)}"


def refuse_clashes(ports: Mapping[str, int], names: Iterable[str], kept: Path) -> None:
    """Raise PortTaken, with every clash and the remedy, when a port of *names*, whose parts are not running, is held.
    kept: where the ports are remembered.
    """
    clashes = [
        f"port {ports[name]} ({name}) is held by {holder(ports[name])}" for name in names if not free(ports[name])
    ]
    if clashes:
        remedy = f"Free it, or take its line out of {kept} to have another chosen; then make up again."
        raise PortTaken("\n".join([*clashes, remedy]))
