"""A copy is gone when nothing is left of it, and only then."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert place.remove()


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
            assert place.remove()
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
            assert place.remove()
            assert child.wait(20) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            child.kill()
            other.kill()


def test_a_directory_of_a_place_that_lost_its_permissions_is_removed_all_the_same() -> None:
    with scratch("p") as base:
        place = Place.of("01m8hcbh43k313fhe1yvbvjc0k", drills=base / "drills", run=base)
        place.make()
        deep = place.data / "base" / "1"
        deep.mkdir(parents=True)
        (deep / "2619").touch()
        nobody = os.stat("/proc/self").st_uid or 65534
        for path in (base, *base.rglob("*")):
            os.chown(path, nobody, -1)
        for path, mode in ((deep, 0o500), (deep.parent, 0o400), (place.work / "log", 0)):
            path.chmod(mode)

        def removed() -> None:
            os.setuid(nobody)
            sys.exit(0 if place.remove() else 1)

        child = multiprocessing.get_context("fork").Process(target=removed)
        child.start()
        child.join(60)
        assert (child.exitcode, place.work.exists()) == (0, False)
