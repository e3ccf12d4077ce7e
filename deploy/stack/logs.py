"""`make logs S=files`: the end of a part's log, then whatever is added to it."""

import os
import time
from pathlib import Path
from typing import TextIO

from deploy.stack.layout import Layout

LINES = 40
POLL_SECONDS = 0.25


class NoSuchPart(Exception):
    """There is no log of that name, or none at all; the message says what there is."""


def chosen(where: Layout, name: str) -> list[Path]:
    """The log of one part, or all of them. Raises NoSuchPart."""
    there = sorted(where.logs.glob("*.log"))
    if not there:
        raise NoSuchPart(f"there is no log in {where.logs} yet: make up")
    if not name:
        return there
    found = [path for path in there if path.stem == name]
    if not found:
        names = ", ".join(path.stem for path in there) or "none yet"
        raise NoSuchPart(f"there is no log of {name}; there are: {names}")
    return found


def show(where: Layout, name: str, out: TextIO, *, follow: bool) -> None:
    """Print the end of the logs, each line with its part in front when there are several, then follow them until
    interrupted.
    """
    paths = chosen(where, name)
    places = {path: tail(path, out, prefix(path, paths)) for path in paths}
    while follow:
        for path, place in places.items():
            places[path] = added(path, place, out, prefix(path, paths))
        out.flush()
        time.sleep(POLL_SECONDS)


def prefix(path: Path, paths: list[Path]) -> str:
    """What stands in front of each line."""
    return "" if len(paths) == 1 else f"{path.stem:<10} | "


def tail(path: Path, out: TextIO, before: str) -> int:
    """Print the last lines; the place up to which was read."""
    size = path.stat().st_size
    with path.open("rb") as log:
        log.seek(max(0, size - 65536))
        for line in log.read(65536).decode(errors="replace").splitlines()[-LINES:]:
            out.write(f"{before}{line}\n")
    return size


def added(path: Path, place: int, out: TextIO, before: str) -> int:
    """Print what was added since *place*; a log that was turned over is read from its beginning."""
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        return 0
    place = 0 if size < place else place
    with path.open("rb") as log:
        log.seek(place)
        words = log.read(size - place)
    whole = words[: words.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        out.write(f"{before}{line}\n")
    return place + len(whole)
