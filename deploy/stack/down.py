"""Takes the stack down: each part in the reverse order of its start, then the supervisor. The data stay."""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from deploy.stack import ports
from deploy.stack.layout import Layout
from deploy.stack.parts import Parts
from deploy.stack.report import Report
from deploy.stack.supervise import LIVING, Supervisor
from deploy.stack.up import alone, known


def down(where: Layout, report: Report) -> None:
    """Stop everything; a stack that is down already is left as it is."""
    with alone(where):
        supervisor = Supervisor(where)
        states = supervisor.states()
        if states:
            for name in stop_order(known(where), set(states)):
                if states[name]["statename"] in LIVING:
                    with report.step(f"stop {name}"):
                        supervisor.stop(name)
            supervisor.shutdown()
        left = leftovers(where)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        where.stack_json.unlink(missing_ok=True)
        shutil.rmtree(where.run, ignore_errors=True)
        ports.forget_sockets(ports.remembered(where.home / "ports.json").values())


def stop_order(parts: Parts, present: set[str]) -> list[str]:
    """Edge first, so that nothing new comes in; then the rest in the reverse order of their start."""
    order = [part.name for part in reversed(parts.all()) if part.name in present]
    order.sort(key=lambda name: name != "edge")
    return [*(name for name in present if name not in order), *order]


def leftovers(where: Layout) -> list[int]:
    """Processes of this stack that outlived their stop."""
    deadline = time.monotonic() + 10
    while True:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        found = [pid for pid in pids if pid != os.getpid() and is_part(where, pid)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def is_part(where: Layout, pid: int) -> bool:
    """Whether a process is a part: the state or run directory in its words, the state's owner, no terminal.

    Somebody's editor or pager on a file of the stack has a terminal, which no part ever has; it is not ours to end.
    """
    marks = (f"{where.state}/".encode(), f"{where.run}/".encode())
    if not any(mark in words(pid) for mark in marks):
        return False
    try:
        owner = int(Path(f"/proc/{pid}/status").read_text().partition("\nUid:")[2].split()[0])
        terminal = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])
        return owner == where.state.stat().st_uid and terminal == 0
    except OSError:  # gone meanwhile
        return False


def words(pid: int) -> bytes:
    """A process's command line and environment; empty when it is gone or another user's."""
    found = b""
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            found += Path(f"/proc/{pid}/{name}").read_bytes()
    return found


def clean(where: Layout, report: Report) -> None:
    """Take the stack down and destroy its data, secrets and logs; the environments stay."""
    down(where, report)
    for path in (where.state, where.logs):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("ports.json", "settings.json", "supervisord.conf", "stack.json", "tour.json"):
        (where.home / name).unlink(missing_ok=True)
    for path in (where.ca_file, where.offsite_ca_file):
        path.unlink(missing_ok=True)
