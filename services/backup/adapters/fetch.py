"""The copy's restore_command: asks the service for one WAL file over a Unix socket; a script, standard library only.

    fetch.py SOCKET NAME DESTINATION

Path sockets cross network namespaces, so the copy needs neither network nor credentials. Exit codes as Postgres reads
them: 0 the file is there, 1 the archive has none, above 125 recovery must stop rather than promote early.
"""

import socket
import sys


def main(path: str, name: str, destination: str) -> int:
    """Ask and translate the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.sendall(f"{name} {destination}\n".encode())
        answer = connection.makefile("rb").readline().strip()
    return {b"there": 0, b"none": 1}.get(answer, 126)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:4]))
    except OSError as error:
        print(f"WAL fetch failed: {error.strerror}", file=sys.stderr)
        sys.exit(126)
