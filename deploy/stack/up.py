"""Brings the stack up: prepares, starts in order, waits for health; a second time it finds everything so and changes
nothing.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.stack import canary, ports, prepare
from deploy.stack.install import revision
from deploy.stack.layout import SERVICES, Layout, settings
from deploy.stack.parts import Part, Parts
from deploy.stack.report import Report
from deploy.stack.supervise import Supervisor, section

START_SECONDS = 60.0
POLL_SECONDS = 0.1


class NotWell(Exception):
    """A part did not become well in time; the message says what it answers and shows the end of its log."""


class OtherRun(Exception):
    """Another process is bringing this stack up or down."""


class NeverUp(Exception):
    """There is no stack here yet; the message says what makes one."""


class IsDown(Exception):
    """The stack was laid out and is not running; the message says what starts it."""


@contextmanager
def alone(where: Layout) -> Iterator[None]:
    """Hold the stack's lock: one `up`, `down` or `clean` at a time. Raises OtherRun."""
    where.home.mkdir(parents=True, exist_ok=True)
    with open(where.home / "stack.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OtherRun(f"another command is working on the stack in {where.home}") from None
        yield


def known(where: Layout) -> Parts:
    """The parts of the stack as it is laid out now. Raises BadSettings, PortTaken."""
    own = where.home == where.programs  # a stack beside the checkout's own leaves the well-known numbers to it
    return Parts(where, ports.assigned(where.home / "ports.json", defaults=own), settings(where))


def standing(where: Layout) -> Parts:
    """The parts of a stack that was laid out before, up or down. Raises NeverUp, and what known raises."""
    if not (where.conf / "envoy.yaml").exists():  # written after every secret
        raise NeverUp(f"There is no stack in {where.home} yet: make up")
    return known(where)


def running(where: Layout) -> Parts:
    """The parts of a stack that runs, well or not. Raises IsDown, and what standing raises."""
    parts = standing(where)
    if not Supervisor(where).alive():
        raise IsDown(f"The stack in {where.home} is down: make up")
    return parts


def up(where: Layout, report: Report) -> Parts:
    """Bring everything up; raises what prepare, ports and supervise raise, and NotWell."""
    with alone(where):
        parts = known(where)
        with report.step("secrets, certificates, configuration"):
            prepare.files(parts)
        supervisor, installed = Supervisor(where), installed_revision(where)
        every = parts.all()
        with report.step("supervisor"):
            replace_changed(supervisor, every, where, installed)
            present = running_parts(supervisor)
            idle = [name for part in every if part.name not in present for name in part.ports]
            ports.refuse_clashes(parts.ports, idle, where.home / "ports.json")
        # Services wait for nothing themselves, so where their tables stand already they load while the store starts.
        early = every if prepare.laid_out(parts, installed) else [part for part in every if part.name not in SERVICES]
        begin(supervisor, early)
        with report.step("Postgres and object store"):
            wait(supervisor, parts.foundations(), where)
        with report.step("roles, tables, buckets, backup stanza"):
            prepare.data(parts, installed)
        with report.step("edge, services, mail"):
            begin(supervisor, every)
            wait(supervisor, every if "store" in present else giving_back(parts, every), where)
        with report.step("canary"):
            canary.ensure(parts)
        remember(where, every, installed)
        describe(where, parts, supervisor, installed)
        return parts


def giving_back(parts: Parts, every: Sequence[Part]) -> list[Part]:
    """*every*, where the store is well only once it gives bytes back: after a start it answers before it can."""
    return [replace(part, fault=parts.store.ready) if part.name == "store" else part for part in every]


def begin(supervisor: Supervisor, wanted: Sequence[Part]) -> None:
    """Start each part that is not running."""
    running = running_parts(supervisor)
    for part in wanted:
        if part.name not in running:
            supervisor.start(part.name)


def running_parts(supervisor: Supervisor) -> set[str]:
    """Names of the parts that have a living process or are about to."""
    return {name for name, state in supervisor.states().items() if state["statename"] in ("STARTING", "RUNNING")}


def wait(supervisor: Supervisor, wanted: Sequence[Part], where: Layout) -> None:
    """Wait until every part is well. Raises NotWell with the faults of those that are not."""
    deadline = time.monotonic() + START_SECONDS
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        faults = list(pool.map(lambda part: well(part, deadline, supervisor), wanted))
    found = [
        f"{part.name}: {fault}\n{last_words(where, part.name)}\n  all of it: {where.logs / part.name}.log"
        for part, fault in zip(wanted, faults, strict=True)
        if fault
    ]
    if found:
        raise NotWell("\n".join([*found, "Once that is mended, make up goes on from here; make down takes it down."]))


def well(part: Part, deadline: float, supervisor: Supervisor) -> str:
    """Ask until the part is well or time is up; its last fault, "" when well. A part that has given up is not waited
    for.
    """
    asked = 0
    while fault := part.fault():
        asked += 1
        if asked % 10 == 0 and Supervisor(supervisor.where).states().get(part.name, {}).get("statename") == "FATAL":
            return f"ended again and again ({fault})"
        if time.monotonic() > deadline:
            return fault
        time.sleep(POLL_SECONDS)
    return ""


def last_words(where: Layout, name: str, lines: int = 12) -> str:
    """The end of a part's log, indented."""
    path = where.logs / f"{name}.log"
    if not path.exists():
        return "    (no log)"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 8192))
        words = log.read().decode(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line[:400]}" for line in words)


def installed_revision(where: Layout) -> str:
    """The revision of what the services run from."""
    stamp = where.programs / "venv" / "sources.stamp"
    return stamp.read_text(encoding="utf-8") if stamp.exists() else revision()


def fingerprint(part: Part, where: Layout, installed: str) -> str:
    """What a running process was started from: its definition, the files it reads at start, and for our own its
    code.
    """
    total = hashlib.sha256(section(part.program, where.logs).encode())
    for argument in part.program.argv:
        path = Path(str(argument).rpartition("=")[2])
        if path.parent in (where.conf, where.state / "store") and path.is_file():
            total.update(path.read_bytes())
    if part.own_code:
        total.update(installed.encode())
    return total.hexdigest()


def replace_changed(supervisor: Supervisor, every: Sequence[Part], where: Layout, installed: str) -> None:
    """Start the supervisor if need be, and stop the parts that run from something older than what is laid out now."""
    path = where.state / "running.json"
    before: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    supervisor.ensure([part.program for part in every])
    running = running_parts(supervisor)
    for part in reversed(every):
        if part.name in running and before.get(part.name, "") not in ("", fingerprint(part, where, installed)):
            supervisor.stop(part.name)


def remember(where: Layout, every: Sequence[Part], installed: str) -> None:
    """Keep what each part was started from."""
    prints = {part.name: fingerprint(part, where, installed) for part in every}
    prepare.changed(where.state / "running.json", json.dumps(prints, indent=1))


def describe(where: Layout, parts: Parts, supervisor: Supervisor, installed: str) -> dict[str, Any]:
    """Write stack.json and return it."""
    states = supervisor.states()
    document: dict[str, Any] = {
        "version": 1,
        "revision": installed,
        "name": where.run.name,
        "edge_url": parts.edge_url,
        "ca_file": str(where.ca_file),
        "state_dir": str(where.state),
        "run_dir": str(where.run),
        "services": {
            service: {
                "grpc": parts.target(service, "grpc"),
                "http": parts.target(service, "http"),
                "metrics": f"127.0.0.1:{parts.ports[f'{service}_metrics']}",
            }
            for service in SERVICES
        },
        "postgres": {
            "socket_dir": str(parts.cluster.socket_dir),
            "port": parts.cluster.port,
            "database": parts.cluster.database,
        },
        "s3": {"endpoint": parts.store.endpoint, "ca_file": str(where.ca_file)},
        "mail_dir": str(where.mail),
        "operator_socket": str(where.operator_socket),
        "evidence_key_file": str(where.evidence_key_file),
        "cli": str(where.programs / "venv" / "bin" / "holdfast"),
        "pids": {name: state["pid"] for name, state in states.items() if state["pid"]},
    }
    prepare.changed(where.stack_json, json.dumps(document, indent=1) + "\n", mode=0o644)
    return document
