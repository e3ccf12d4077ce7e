"""The bare parts of a stack, started and stopped as a person would who has only their command lines."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.stack import prepare
from deploy.stack.parts import Part, Parts
from deploy.stack.postgres import binaries
from deploy.stack.supervise import Program
from tests.bench.own_stack import seconds, well


def bare(parts: Parts) -> list[Part]:
    """SeaweedFS, Postgres and Envoy with the stack's own data and configuration, in the order of need."""
    return [*parts.foundations(), parts.envoy()]


def start_seconds(parts: Parts) -> dict[str, float]:
    """Seconds until each part is well, started once the one before it was; all are stopped again."""
    prepare.files(parts)
    taken: dict[str, float] = {}
    with _stopping() as running:
        for part in bare(parts):

            def start(part: Part = part) -> None:
                running.append((part.program, _start(part.program, parts.where.logs)))
                well(part)

            taken[part.name] = seconds(start)
    return taken


def versions(parts: Parts) -> str:
    """Names and versions of the bare parts."""
    asked = {
        "Postgres": [str(binaries() / "postgres"), "--version"],
        "SeaweedFS": [str(parts.where.tool("weed")), "version"],
        "Envoy": [str(parts.where.tool("envoy")), "--version"],
    }
    told = {
        name: subprocess.run(argv, capture_output=True, text=True, check=True).stdout for name, argv in asked.items()
    }
    found = {name: re.search(r"\d+\.\d+(\.\d+)?", text) for name, text in told.items()}
    return ", ".join(f"{name} {number[0]}" for name, number in found.items() if number)


@contextmanager
def _stopping() -> Iterator[list[tuple[Program, "subprocess.Popen[bytes]"]]]:
    """A list of what runs; in the end all of it is stopped, the last first."""
    running: list[tuple[Program, subprocess.Popen[bytes]]] = []
    try:
        yield running
    finally:
        for program, process in reversed(running):
            process.send_signal(signal.Signals[f"SIG{program.stop_signal}"])
            try:
                process.wait(program.stop_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(program: Program, logs: Path) -> "subprocess.Popen[bytes]":
    with (logs / f"{program.name}.log").open("ab") as log:
        return subprocess.Popen(
            [str(word) for word in program.argv],
            cwd=program.directory, env=dict(program.environment), umask=0o077,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
