"""What a program that is shut in can reach: nothing of the outside, while the same program outside reaches it."""

import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.backup.adapters import questions
from tests.support.backup import PYTHON, Archived, become, own

# Run by what is installed, as the service's user, who may not be able to read the checkout.
STRONGEST = """
import asyncio, json, pathlib, sys
from services.backup.adapters import isolation
hide, keep = (list(map(pathlib.Path, paths)) for paths in json.loads(sys.argv[1]))
level = asyncio.run(isolation.strongest())
probe = pathlib.Path(isolation.__file__).with_name("probe.py")
json.dump([level.namespaces, level.wrap([], hide=hide, keep=keep), str(probe)], sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Shut:
    """How a program is shut in here. prefix: what its command line begins with; probe: the installed script."""

    namespaces: tuple[str, ...]
    prefix: tuple[str, ...]
    probe: str


def shut_in(hide: Sequence[Path] = (), keep: Sequence[Path] = ()) -> Shut:
    """The strongest level there is on this machine, hiding *hide* but for *keep*."""
    asked = json.dumps([list(map(str, hide)), list(map(str, keep))])
    told = subprocess.run([*become(), PYTHON, "-I", "-c", STRONGEST, asked], check=True, capture_output=True, cwd="/")
    namespaces, prefix, probe = json.loads(told.stdout)
    return Shut(tuple(namespaces), tuple(prefix), probe)


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def probe(shut: Shut, targets: list[str], *, inside: bool) -> list[str]:
    prefix = shut.prefix if inside else ()
    argv = [*become(), *prefix, PYTHON, "-I", "-S", shut.probe, *targets]
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd="/").stdout.splitlines()


def test_a_copy_sees_neither_the_database_its_files_nor_the_network(archived: Archived, listener: int) -> None:
    kept = own(archived.state / "kept")
    (kept / "own").write_text("x")
    (kept / "own").chmod(0o644)
    outside = [
        f"unix:{archived.cluster.socket_dir}/.s.PGSQL.{archived.cluster.port}",
        f"file:{archived.config}",
        f"tcp:127.0.0.1:{listener}",
    ]
    targets = [*outside, f"file:{kept / 'own'}"]
    shut = shut_in(hide=[archived.run, archived.state], keep=[kept])
    assert shut.namespaces == ("user", "net", "mount", "ipc")

    assert probe(shut, targets, inside=False)[:4] == [f"open {target}" for target in targets]
    inside = probe(shut, targets, inside=True)

    assert inside[:4] == [*(f"shut {target}" for target in outside), f"open {targets[3]}"]
    assert inside[4:] == ["listens 0", "interfaces 0"]


def test_one_hidden_file_reads_as_empty(archived: Archived) -> None:
    target = f"file:{archived.config}"
    assert probe(shut_in(), [target], inside=True)[0] == f"open {target}"
    assert probe(shut_in(hide=[archived.config]), [target], inside=True)[0] == f"shut {target}"


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
    (unproved, _) = questions.judge_reach(asked, [*shut, *silent], shut)
    assert (unproved.made, unproved.ok) == (False, False)  # the control answers nowhere either
    assert [check.check for check in questions.judge_reach([], silent, [])] == ["isolation_no_network"]
