"""Memory of processes as PSS: each page once, shared out among those who share it. Source: proc(5), smaps_rollup."""

from pathlib import Path


def descendants(root: int) -> set[int]:
    """*root* and every process below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(_parent(entry), []).append(int(entry.name))
        except OSError:
            continue
    found, left = set(), [root]
    while left:
        pid = left.pop()
        found.add(pid)
        left += children.get(pid, [])
    return found


def pss_mib(pid: int) -> float:
    """MiB of one process; 0 for one that has ended meanwhile. Needs to be root, or its owner."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def _parent(entry: Path) -> int:
    # The name stands in brackets and may hold anything; the parent is the second word after it.
    return int((entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
