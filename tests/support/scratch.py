"""Directories for what tests write in thousands of small files, each of them synced: in memory where there is room.

A restore here is 1,500 files of 30 MB; on a busy disk their syncs take ten times as long as everything else. Nothing
that is tested depends on the disk: what dies here is a process, never the machine.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 4 << 30
_MARK = "hfs-"


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A fresh directory with a short path, everybody's to look into, gone at the end.

    What runs that were killed left in memory is removed first.
    """
    where = _MEMORY if _fits(_MEMORY) else Path("/tmp")
    for left in where.glob(f"{_MARK}*"):
        if not Path(f"/proc/{left.name.split('-')[1]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{_MARK}{os.getpid()}-{name}", dir=where))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fits(directory: Path) -> bool:
    """Whether programs may run from there and enough of it is free; memory, for what it is made of."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    free = found.f_bavail * found.f_frsize
    return free >= _NEEDED_BYTES and not found.f_flag & os.ST_NOEXEC and _memory_bytes() >= _NEEDED_BYTES


def _memory_bytes() -> int:
    """What Linux could still give out."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return int(told["MemAvailable"].split()[0]) << 10
