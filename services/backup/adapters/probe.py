"""Run by the copy's own server: says what of the outside it can reach; a script, standard library only.

    probe.py TARGET...       TARGET is unix:PATH, file:PATH or tcp:HOST:PORT

One line for each target: `open TARGET` or `shut TARGET`, then `listens N` for TCP sockets that listen in this network
namespace and `interfaces N` for network interfaces other than loopback. Where namespaces are real, nothing is open.
"""

import os
import socket
import sys

_LISTEN = "0A"


def reachable(target: str) -> bool:
    """Whether *target* can be opened or connected to."""
    kind, _, rest = target.partition(":")
    if kind == "file":
        return _has_content(rest)
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    address: str | tuple[str, int] = rest
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        address = (host, int(port))
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(address)
        except OSError:
            return False
    return True


def _has_content(path: str) -> bool:
    """Whether a byte of the file at *path* can be read."""
    try:
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def listeners() -> int:
    """TCP sockets in state LISTEN in this network namespace."""
    rows = []
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        if os.path.exists(table):
            with open(table, encoding="ascii") as file:
                rows += file.readlines()[1:]
    return sum(row.split()[3] == _LISTEN for row in rows)


def interfaces() -> int:
    """Network interfaces other than loopback."""
    return sum(name != "lo" for _, name in socket.if_nameindex())


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print("open" if reachable(wanted) else "shut", wanted)
    print("listens", listeners())
    print("interfaces", interfaces())
