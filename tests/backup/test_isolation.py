"""What a program that is shut in can reach: nothing of the outside, while the same program outside reaches it."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.backup.adapters import isolation, questions
from tests.support.backup import Archived, become, own

PROBE = Path(isolation.__file__).with_name("probe.py")


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def probe(prefix: list[str], targets: list[str]) -> list[str]:
    argv = [*become(), *prefix, sys.executable, "-I", "-S", str(PROBE), *targets]
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd="/").stdout.splitlines()


def test_a_copy_sees_neither_the_database_its_files_nor_the_network(archived: Archived, listener: int) -> None:
    level = asyncio.run(isolation.strongest())
    assert level.namespaces == ("user", "net", "mount", "ipc")
    kept = own(archived.state / "kept")
    (kept / "own").write_text("x")
    (kept / "own").chmod(0o644)
    outside = [
        f"unix:{archived.cluster.socket_dir}/.s.PGSQL.{archived.cluster.port}",
        f"file:{archived.config}",
        f"tcp:127.0.0.1:{listener}",
    ]
    targets = [*outside, f"file:{kept / 'own'}"]
    hidden = [archived.run, archived.state]

    assert probe([], targets)[:4] == [f"open {target}" for target in targets]
    wrapped = level.wrap([], hide=hidden, keep=[kept])
    inside = probe(wrapped, targets)

    assert inside[:4] == [*(f"shut {target}" for target in outside), f"open {targets[3]}"]
    assert inside[4:] == ["listens 0", "interfaces 0"]


def test_one_hidden_file_reads_as_empty(archived: Archived) -> None:
    level = asyncio.run(isolation.strongest())
    target = f"file:{archived.config}"
    assert probe(level.wrap([]), [target])[0] == f"open {target}"
    assert probe(level.wrap([], hide=[archived.config]), [target])[0] == f"shut {target}"


def test_something_reached_from_inside_fails_the_check() -> None:
    asked = ["unix:/run/pg", "file:/conf"]
    outside = [f"open {target}" for target in asked]
    shut = [f"shut {target}" for target in asked]
    silent = ["listens 0", "interfaces 0"]
    good = questions.judge_reach(asked, [*shut, *silent], outside)
    reached = questions.judge_reach(asked, [shut[0], outside[1], *silent], outside)
    listening = questions.judge_reach(asked, [*shut, "listens 1", "interfaces 0"], outside)
    unanswered = questions.judge_reach(asked, [], outside)
    assert [check.ok for check in good] == [True, True]
    assert [check.ok for check in reached] == [False, True]
    assert [check.ok for check in listening] == [True, False]
    assert [check.ok for check in unanswered] == [False, False]
    assert [check.check for check in questions.judge_reach([], silent, [])] == ["isolation_no_network"]
