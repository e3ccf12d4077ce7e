"""Which processes belong to the stack, and on what addresses they listen: the proof that only the edge is reachable
(O7).
"""

import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket. part: the part it belongs to. address: an IP address; protocol: tcp or udp."""

    part: str
    pid: int
    protocol: str
    address: str
    port: int

    @property
    def private(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback


def family(pids: Iterable[int]) -> set[int]:
    """These processes and all their descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):  # gone meanwhile
                continue
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def sockets() -> dict[int, tuple[str, str, int]]:
    """Listening sockets of this network namespace by inode: protocol, address, port. Unconnected UDP counts as
    listening.
    """
    found: dict[int, tuple[str, str, int]] = {}
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        path = Path("/proc/net") / table
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []:
            words = line.split()
            if words[3] == state:
                address, port = words[1].split(":")
                found[int(words[9])] = (table[:3], decoded(address), int(port, 16))
    return found


def decoded(address: str) -> str:
    """The kernel's hexadecimal address, four bytes at a time in the machine's order, as text."""
    raw = bytes.fromhex(address)
    words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    ordered = b"".join(word[::-1] for word in words) if sys.byteorder == "little" else raw
    return str(ipaddress.ip_address(ordered))


def listeners(parts: dict[str, int]) -> list[Listener]:
    """What the parts (name → process id) and their children listen on, by port."""
    known = sockets()
    found = []
    for part, root in parts.items():
        for pid in family([root]):
            for link in open_files(pid):
                inode = int(link[8:-1]) if link.startswith("socket:[") else 0
                if inode in known:
                    found.append(Listener(part, pid, *known[inode]))
    return sorted(set(found), key=lambda one: (one.port, one.pid))


def open_files(pid: int) -> Iterator[str]:
    """What the process has open, as /proc names it; what is closed meanwhile is left out."""
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # gone, or another user's
        return
    for entry in entries:
        with suppress(OSError):
            yield os.readlink(entry)


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory of processes, shared pages counted in shares (PSS); 0 for those that cannot be looked into."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
