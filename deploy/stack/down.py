"""Takes the stack down: each part in the reverse order of its start, then the supervisor. The data stay."""

import os
import shutil
import signal
import time
from pathlib import Path

from deploy.stack.layout import Layout
from deploy.stack.parts import Parts
from deploy.stack.ports import command_of
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
            os.kill(pid, signal.SIGKILL)
        where.stack_json.unlink(missing_ok=True)
        shutil.rmtree(where.run, ignore_errors=True)


def stop_order(parts: Parts, present: set[str]) -> list[str]:
    """Edge first, so that nothing new comes in; then the rest in the reverse order of their start."""
    order = [part.name for part in reversed(parts.all()) if part.name in present]
    order.sort(key=lambda name: name != "edge")
    return [*(name for name in present if name not in order), *order]


def leftovers(where: Layout) -> list[int]:
    """Processes of this stack that outlived their stop: those whose command names its state or run directory."""
    marks = (f"{where.state}/", f"{where.run}/")
    deadline = time.monotonic() + 10
    while True:
        found = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and int(entry.name) != os.getpid()
            and any(mark in command_of(int(entry.name), 4000) for mark in marks)
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def clean(where: Layout, report: Report) -> None:
    """Take the stack down and destroy its data, secrets and logs; the environments stay."""
    down(where, report)
    for path in (where.state, where.logs):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("ports.json", "settings.json", "supervisord.conf", "ca.pem", "stack.json", "tour.json"):
        (where.home / name).unlink(missing_ok=True)
