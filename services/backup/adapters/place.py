"""Where one copy lives, and how every trace of it is removed, also by a process that did not make it."""

import os
import shutil
import signal
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.observability import log
from services.backup.adapters.journal import sync_directory

_log = log.get(__name__)
_MADE = ("lock", "spool", "log", "tablespaces", "ahead")
_SOCKET_ID = 12
_ENDING = ((signal.SIGINT, 0.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 6.0))
_GIVE_UP_SECONDS = 15.0
REMEDY = "End or remove it by hand, as root; the next start of the service tries again."


@dataclass(frozen=True, slots=True)
class Place:
    """work: the copy's own directory, 0700. sockets: short, for a socket's path has 107 bytes at most."""

    work: Path
    sockets: Path

    @classmethod
    def of(cls, drill_id: str, *, drills: Path, run: Path) -> "Place":
        """The place of the drill of this id."""
        return cls(drills / drill_id, run / f"d{drill_id[-_SOCKET_ID:]}")

    @property
    def data(self) -> Path:
        """The restored PGDATA."""
        return self.work / "data"

    @property
    def wal_socket(self) -> Path:
        """Where restore_command asks."""
        return self.sockets / "wal.sock"

    @property
    def log(self) -> Path:
        """The copy's server log."""
        return self.work / "postgres.log"

    def make(self) -> None:
        """The empty directories, durable, so that a reaper will see them."""
        for directory in (self.work, self.sockets, *(self.work / name for name in _MADE)):
            directory.mkdir(mode=0o700, parents=True)
        sync_directory(self.work.parent)

    def gone(self) -> bool:
        """Whether nothing is left: neither directory, nor any process of ours that runs in or for this place."""
        return not self.work.exists() and not self.sockets.exists() and not self.processes()

    def processes(self) -> list[int]:
        """Processes of this user that name this place on their command line, or work in it: server, engine, helpers.

        A server's children write what they do over their command line. Where they work is told without symbolic links.
        """
        given = (self.work, self.sockets)
        names = {str(one) for one in given} | {os.path.realpath(one) for one in given}
        inside = tuple(f"{name}/" for name in names)
        return [
            pid
            for pid in _own_processes()
            if any(name in _command_line(pid) for name in names)
            or any(f"{one}/".startswith(inside) for one in _directories(pid))
        ]

    def remove(self) -> str:
        """End what runs here and delete everything; blocks up to some seconds. What is left and why, "" once gone()."""
        try:
            what = self._remove()
        except OSError as fault:
            what = f"{fault.filename or self.work}: {fault.strerror}"
        if what:
            _log.error("leftover_stays", place=self.work.name, what=what, remedy=REMEDY)
        return what

    def _remove(self) -> str:
        self._end_processes()
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        left: dict[str, str] = {}

        def note(_: object, path: str, fault: Any) -> None:
            if not isinstance(fault[1], FileNotFoundError):
                self._loosen(Path(path))
                left.setdefault(path, str(getattr(fault[1], "strerror", fault[1])))

        while time.monotonic() < deadline:
            left.clear()
            for directory in (self.work, self.sockets):
                # A dying server may still write beside us: try until nothing comes back.
                shutil.rmtree(directory, onerror=note)
            if self.gone():
                sync_directory(self.work.parent)
                return ""
            time.sleep(0.05)
        return self._first(left)

    def _loosen(self, path: Path) -> None:
        """Let this user into *path* and its directory; not into that of the sockets, which others use too."""
        for one in (path.parent, path):
            ours = one.is_relative_to(self.work.parent) or one.is_relative_to(self.sockets)
            with suppress(OSError):
                if ours and one.is_dir() and not one.is_symlink():
                    one.chmod(stat.S_IMODE(one.stat().st_mode) | stat.S_IRWXU)

    def _first(self, left: Mapping[str, str]) -> str:
        """Of what is left, what was met first, and why."""
        if running := self.processes():
            return f"{self.work}: process {running[0]} does not end"
        path, why = next(iter(left.items()), (str(self.work), "it came back"))
        return f"{path}: {why}"

    def _end_processes(self) -> None:
        began, sent = time.monotonic(), 0
        while (left := self.processes()) and time.monotonic() < began + _GIVE_UP_SECONDS:
            if sent < len(_ENDING) and time.monotonic() >= began + _ENDING[sent][1]:
                for pid in left:
                    _send(pid, _ENDING[sent][0])
                sent += 1
            time.sleep(0.02)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _own_processes() -> list[int]:
    own = os.geteuid()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == own and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except FileNotFoundError:
            continue
    return found


def _directories(pid: int) -> list[str]:
    """Where it works and what it has for its root, also when that has been deleted."""
    found = []
    for name in ("cwd", "root"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/{name}").removesuffix(" (deleted)"))
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
