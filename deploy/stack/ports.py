"""The ports of one stack: defaults, chosen anew once if taken, then remembered; a later clash names its holder."""

import json
import os
import random
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

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
CHOICE = range(20_000, 30_000)  # below Linux's ephemeral range, so that no outgoing connection sits on one of them


class PortTaken(Exception):
    """A remembered port is held by something that is not ours; the message names it."""


def free(port: int) -> bool:
    """Whether 127.0.0.1:*port* can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def assigned(path: Path, *, defaults: bool) -> dict[str, int]:
    """The remembered ports, each missing one chosen now and remembered.

    defaults: whether the well-known numbers are tried first; a stack of a test leaves them to `make up`.
    """
    kept: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
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
    listener = listeners().get(port)
    if listener is None:
        return "nobody now"
    pid = owner_of(listener[1])
    return "another user's process" if pid is None else f"process {pid}: {command_of(pid)}"


def refuse_clashes(ports: Mapping[str, int], names: Iterable[str]) -> None:
    """Raise PortTaken, with every clash, when a port of *names*, whose parts are not running, is held."""
    clashes = [
        f"port {ports[name]} ({name}) is held by {holder(ports[name])}" for name in names if not free(ports[name])
    ]
    if clashes:
        raise PortTaken("; ".join(clashes))
