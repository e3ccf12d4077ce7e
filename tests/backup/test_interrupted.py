"""A service that dies, at any instruction, leaves nothing that its next start does not clean up."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from tests.support.backup import PYTHON, Archived, Operator, Service, become, own, wait_until

ATTEMPTS = 4
# One in which the engine writes, one in which a server recovers, one in which it answers, and the last; the others
# differ from them in nothing but the moment.
QUICK = ("restore", "replay", "check", "teardown")
LONGER = ("promote", "scrub")


@pytest.fixture(scope="module")
def backed_up(service: Service) -> Service:
    """The service with a backup and archived heartbeats."""
    with Operator(service) as operator:
        assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        operator.status(advance=True)
        operator.status(advance=True)
    return service


def test_a_second_service_on_the_same_state_does_not_start_and_says_which_one_works_there(
    archived: Archived, backed_up: Service
) -> None:
    twin = Service(archived, "twin", state_dir=str(backed_up.state))
    with pytest.raises(AssertionError, match=r"Another backup service \(process \d+\) works in .*: end it"):
        twin.start()
    with Operator(backed_up) as operator:
        begun = len(operator.backups.ListBackups(pb.ListBackupsRequest()).backups)
    assert begun
    # The control: it was the other one that kept it from starting, and what that one did is there for it.
    backed_up.kill()
    with twin, Operator(twin) as operator:
        assert len(operator.backups.ListBackups(pb.ListBackupsRequest()).backups) == begun
        assert twin.stop() == 0
    backed_up.start()


def killed_in(service: Service, phase: str) -> tuple[str, list[str]]:
    """Begin a drill and kill the service when *phase* runs; the drill's name and what was left at that instruction."""
    with Operator(service) as operator:
        name = operator.begin_drill().name
        for drill in operator.watch(name):
            if any(one.phase == phase and one.state == pb.STATE_RUNNING for one in drill.phases):
                break
        service.kill()
        left = service.leftovers
    return name, left


@pytest.mark.control("B3", "a drill killed in any phase leaves nothing behind")
@pytest.mark.parametrize("phase", [*QUICK, *(pytest.param(phase, marks=pytest.mark.sweep) for phase in LONGER)])
def test_a_drill_killed_in_a_phase_is_failed_and_cleaned_up_at_the_next_start(backed_up: Service, phase: str) -> None:
    for _ in range(ATTEMPTS):
        name, left = killed_in(backed_up, phase)
        backed_up.start()
        with Operator(backed_up) as operator:
            found = operator.get_drill(name)
        assert backed_up.leftovers == []
        if f"in phase {phase}" in found.error.message:
            break
    else:
        pytest.fail(f"the service was never killed in phase {phase}")

    assert found.state == pb.STATE_FAILED
    assert left or phase == "teardown"
    assert found.phases[-1].state == pb.STATE_SUCCEEDED


def working_below(copies: Path) -> list[int]:
    """Processes that work in a copy, by whatever name."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(entry / "cwd").startswith(f"{copies}/"):
                found.append(int(entry.name))
    return found


def test_a_stopped_server_of_a_copy_and_directories_without_permissions_are_gone_after_the_next_start(
    backed_up: Service,
) -> None:
    """The server's children had other command lines, and lived on; the directory was told to be removed, and stayed."""
    copies = backed_up.state / "copies"
    with Operator(backed_up) as operator:
        for _ in range(ATTEMPTS):
            name = operator.begin_drill().name
            for drill in operator.watch(name):
                if any(one.phase == "check" and one.state == pb.STATE_RUNNING for one in drill.phases):
                    break
            stopped = working_below(copies)
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            # The copy was gone, or going, before it was looked at: again.
            if len(stopped) > 2:
                break
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            operator.ended(name)
        for directory in (*copies.glob("*/data/base"), *copies.glob("*/log")):
            directory.chmod(0o500)
        backed_up.kill()
    # The postmaster and children that write what they do over their command line.
    assert len(stopped) > 2
    backed_up.start()
    assert (working_below(copies), backed_up.leftovers) == ([], [])
    with Operator(backed_up) as operator:
        assert operator.get_drill(name).phases[-1].state == pb.STATE_SUCCEEDED


def test_a_drill_succeeds_after_all_those_kills(backed_up: Service) -> None:
    with Operator(backed_up) as operator:
        assert operator.drill().state == pb.STATE_SUCCEEDED


def test_a_backup_killed_half_way_is_failed_and_the_next_one_succeeds(backed_up: Service) -> None:
    with Operator(backed_up) as operator:
        asked = pb.CreateBackupRequest(backup=pb.Backup(type=pb.BACKUP_TYPE_FULL))
        name = operator.backups.CreateBackup(asked, timeout=60).backup.name
        backed_up.kill()
    backed_up.start()
    with Operator(backed_up) as operator:
        failed = operator.backups.GetBackup(pb.GetBackupRequest(name=name), timeout=60).backup
        assert failed.state == pb.STATE_FAILED
        assert "ended while the backup was running" in failed.error.message
        wait_until(lambda: operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED, "the next backup")


@pytest.mark.parametrize(("drain_seconds", "state"), [("60", "SUCCEEDED"), ("0", "FAILED")])
def test_a_service_that_is_stopped_lets_a_drill_end_or_ends_it_and_removes_the_copy(
    archived: Archived, backed_up: Service, drain_seconds: str, state: str
) -> None:
    stopped = Service(archived, f"stop{drain_seconds}", drain_seconds=drain_seconds)
    stopped.start()
    with Operator(stopped) as operator:
        name = operator.begin_drill().name.removeprefix("drills/")
        wait_until(lambda: stopped.leftovers != [], "the copy's directory")
        assert stopped.stop() == 0, stopped.log.read_text()[-4000:]

    journal = json.loads((stopped.state / "drills" / f"{name}.json").read_text())
    assert journal["state"] == state, journal
    assert stopped.leftovers == []


STUBBORN = (
    "import signal\nfor n in (2, 3, 15): signal.signal(n, signal.SIG_IGN)\nprint('ready', flush=True)\nsignal.pause()"
)


@pytest.fixture
def orphan(archived: Archived) -> Iterator[tuple[Service, Path, "subprocess.Popen[bytes]"]]:
    """A service, not started, with the leftovers of a drill: a directory, and a process that only SIGKILL ends."""
    service = Service(archived, "orphan")
    work = own(own(service.state / "copies") / "01leftover")
    own(work / "data")
    argv = [*become(), PYTHON, "-c", STUBBORN, str(work / "data")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield service, work, process
    process.stdout.close()
    process.kill()
    process.wait()


def test_an_orphaned_server_of_a_forgotten_drill_is_ended_and_its_directory_removed(
    orphan: tuple[Service, Path, "subprocess.Popen[bytes]"],
) -> None:
    service, work, process = orphan
    assert len(service.leftovers) == 2

    service.start()

    assert process.wait(30) == -9
    assert not work.exists()
    assert service.leftovers == []
    assert service.stop() == 0
