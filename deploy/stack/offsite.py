"""B1: whether backups lie elsewhere than what they are backups of: neither where the files are nor on this machine."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Resolve = Callable[[str], frozenset[str]]
HERE = "this machine"
"""What every address of this machine is called, loopback or not."""
REMEDY = (
    "Name an S3 store at another site by offsite_endpoint in settings.json, or copy the bucket there daily: it is"
    " encrypted, and with the escrow enough for a restore (deploy/runbooks/backup.md, Repository not off-site)."
)


def repository_host(config: Path) -> str:
    """The host that pgBackRest's file *config* sends backups to; "" for a directory. Raises ValueError when it is
    neither.
    """
    lines = (line.partition("=") for line in config.read_text(encoding="utf-8").splitlines())
    options = {name.strip(): value.strip() for name, _, value in lines}
    kind = options.get("repo1-type", "posix")
    if kind == "posix":
        return ""
    # An endpoint may carry a port, and a storage host stands in for it.
    host = options.get("repo1-storage-host") or options.get("repo1-s3-endpoint", "")
    name = urlsplit(f"//{host}").hostname
    if kind != "s3" or not name:
        raise ValueError(f"{config} names no S3 endpoint")
    return name


def fault(repository: str, files: str, resolve: Resolve) -> str:
    """Why the repository is not off-site, in one line; "" when it is.

    repository: its host, "" for a directory. files: URL of the files bucket's endpoint. resolve: the addresses of a
    host, none when it is not known.
    """
    if not repository:
        return "backups lie in a directory of this machine: one loss takes the data and its backups"
    beside = urlsplit(files).hostname or files
    theirs = resolve(repository)
    if repository.casefold() == beside.casefold() or theirs & resolve(beside):
        return f"backups lie at {repository} and files at {beside}, the same endpoint: one loss takes both"
    if HERE in theirs:
        return f"backups lie at {repository}, which is this machine: one loss takes the data and its backups"
    if not theirs:
        return f"{repository} cannot be resolved: nothing shows that backups lie elsewhere than files"
    return ""


def addresses(host: str) -> frozenset[str]:
    """The addresses of *host*, this machine's own all called HERE; none when it cannot be resolved."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(HERE if _own(family, place) else str(place[0]) for family, _, _, _, place in found)


def _own(family: int, place: tuple[Any, ...]) -> bool:
    """Whether a socket of this machine could listen there, which only its own addresses allow."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True
