"""A copy is gone when nothing is left of it, and only then."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.backup.adapters import place as module
from services.backup.adapters.place import Place
from tests.support.scratch import scratch

_WAITING = "import signal; print(flush=True); signal.pause()"


def test_a_place_is_gone_only_without_directory_sockets_and_processes(tmp_path: Path) -> None:
    (tmp_path / "drills").mkdir()
    place = Place.of("01m8hcbh43k313fhe1yvbvjc0k", drills=tmp_path / "drills", run=tmp_path)
    assert place.gone()
    place.make()
    assert not place.gone()
    shutil.rmtree(place.work)
    assert not place.gone()
    shutil.rmtree(place.sockets)
    assert place.gone()
    place.make()
    argv = [sys.executable, "-c", _WAITING, str(place.data)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        left.stdout.readline()
        shutil.rmtree(place.work)
        shutil.rmtree(place.sockets)
        assert not place.gone()
        assert place.processes() == [left.pid]
        left.kill()
    assert place.remove() == ""


def test_a_process_that_works_in_the_place_and_does_not_name_it_is_found_and_ended(tmp_path: Path) -> None:
    """As a server's children do: the copy was told to be gone while they lived on in its deleted directory."""
    (tmp_path / "drills").mkdir()
    place = Place.of("01m8hcbh43k313fhe1yvbvjc0k", drills=tmp_path / "drills", run=tmp_path)
    place.make()
    place.data.mkdir()
    argv = [sys.executable, "-c", _WAITING]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=place.data) as child,
        subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=tmp_path / "drills") as other,
    ):
        try:
            for one in (child, other):
                assert one.stdout is not None
                one.stdout.readline()
            assert place.processes() == [child.pid]
            shutil.rmtree(place.work)
            shutil.rmtree(place.sockets)
            assert (place.processes(), place.gone()) == ([child.pid], False)
            assert place.remove() == ""
            assert child.wait(20) != 0
            assert other.poll() is None
        finally:
            child.kill()
            other.kill()


@pytest.mark.parametrize("where", ["work", "sockets"])
def test_a_process_in_a_place_that_is_reached_by_a_symbolic_link_is_found_and_ended(tmp_path: Path, where: str) -> None:
    """The kernel tells where it really works: a state directory that is a link made every such process invisible."""
    (tmp_path / "volume" / "drills").mkdir(parents=True)
    (tmp_path / "state").symlink_to(tmp_path / "volume")
    place = Place.of("01m8hcbh43k313fhe1yvbvjc0k", drills=tmp_path / "state" / "drills", run=tmp_path / "state")
    place.make()
    argv = [sys.executable, "-c", _WAITING]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=getattr(place, where)) as child,
        subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=place.work.parent) as other,
    ):
        try:
            for one in (child, other):
                assert one.stdout is not None
                one.stdout.readline()
            child.send_signal(signal.SIGSTOP)
            shutil.rmtree(place.work)
            shutil.rmtree(place.sockets)
            assert (place.processes(), place.gone()) == ([child.pid], False)
            assert place.remove() == ""
            assert child.wait(20) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            child.kill()
            other.kill()


def as_nobody(base: Path, work: Callable[[], bool]) -> bool:
    """What *work* says in a process of a user without privileges, to whom all of *base* is given."""
    nobody = os.geteuid() or 65534
    for path in (base, *base.rglob("*")):
        os.chown(path, nobody, -1)

    def child() -> None:
        os.setuid(nobody)
        sys.exit(0 if work() else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    return process.exitcode == 0


@pytest.fixture
def place() -> Iterator[Place]:
    """A made place with a table's file in it, where anybody may look."""
    with scratch("p") as base:
        (base / "run").mkdir(mode=0o755)
        made = Place.of("01m8hcbh43k313fhe1yvbvjc0k", drills=base / "drills", run=base / "run")
        made.make()
        (made.data / "base" / "1").mkdir(parents=True)
        (made.data / "base" / "1" / "2619").touch()
        yield made


def test_a_directory_of_a_place_that_lost_its_permissions_is_removed_all_the_same(place: Place) -> None:
    def removed() -> bool:
        for path, mode in ((place.data / "base" / "1", 0o500), (place.data / "base", 0o400), (place.work / "log", 0)):
            path.chmod(mode)
        return place.remove() == ""

    assert as_nobody(place.work.parents[1], removed)
    assert not place.work.exists()


def test_removing_a_place_takes_nobodys_access_to_the_directory_of_all_sockets(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every service's socket is below it: closed to all but one user, no other user reached any of them."""
    monkeypatch.setattr(module, "_GIVE_UP_SECONDS", 1.0)
    run = place.sockets.parent
    run.chmod(0o555)
    # The control: while nothing can be removed from it, the sockets are told to stay.
    assert as_nobody(place.work.parents[1], lambda: place.remove() == f"{place.sockets}: Permission denied")
    assert (run.stat().st_mode & 0o777, place.work.exists()) == (0o555, False)
    run.chmod(0o755)
    assert as_nobody(place.work.parents[1], lambda: place.remove() == "")


def test_a_process_that_does_not_end_is_told_by_its_number(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [sys.executable, "-c", _WAITING]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=place.data) as child:
        try:
            with monkeypatch.context() as patched:
                patched.setattr(module, "_GIVE_UP_SECONDS", 1.0)
                patched.setattr(module, "_ENDING", ())  # as if it waited for a dead disk
                assert place.remove() == f"{place.work}: process {child.pid} does not end"
            assert place.remove() == ""
        finally:
            child.kill()
