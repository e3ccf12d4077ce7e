"""Who follows a backup or a drill and stops: the work goes on, and the command says so; a cancel tells how it ended."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from google.rpc import status_pb2

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1 import backup_service_pb2_grpc as grpc_pb
from holdfast.cli import main
from tests.support.scratch import scratch

DRILL, BACKUP = "drills/d1", "backups/b1"
# Whoever runs the tests in the background may have them ignore the interrupt.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
PROGRAM = f"{HEED}; from holdfast.cli import main; main()"
DRILL_NEXT = "Follow it: holdfast drill watch drills/d1. End it: holdfast drill cancel drills/d1.\n"
SECONDS = 30


class Service(grpc_pb.DrillServiceServicer, grpc_pb.BackupServiceServicer):
    """One drill and one backup under way, whose watchers wait until they are to end. last: as what the drill ends."""

    def __init__(self) -> None:
        self.watched, self.over = threading.Event(), threading.Event()
        self.last = pb.Drill(name=DRILL, state=pb.STATE_RUNNING)
        self.server = grpc.server(ThreadPoolExecutor(2))

    def CreateDrill(self, request: pb.CreateDrillRequest, context: grpc.ServicerContext) -> pb.CreateDrillResponse:
        return pb.CreateDrillResponse(drill=pb.Drill(name=DRILL, state=pb.STATE_RUNNING))

    def CancelDrill(self, request: pb.CancelDrillRequest, context: grpc.ServicerContext) -> pb.CancelDrillResponse:
        return pb.CancelDrillResponse(drill=pb.Drill(name=request.name, state=pb.STATE_RUNNING))

    def WatchDrill(
        self, request: pb.WatchDrillRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchDrillResponse]:
        if request.name != DRILL:
            context.abort(grpc.StatusCode.NOT_FOUND, "There is no such drill.")
        yield pb.WatchDrillResponse(drill=pb.Drill(name=request.name, state=pb.STATE_RUNNING))
        self.watched.set()
        self.over.wait(SECONDS)
        yield pb.WatchDrillResponse(drill=self.last)

    def CreateBackup(self, request: pb.CreateBackupRequest, context: grpc.ServicerContext) -> pb.CreateBackupResponse:
        return pb.CreateBackupResponse(backup=pb.Backup(name=BACKUP, state=pb.STATE_RUNNING))

    def WatchBackup(
        self, request: pb.WatchBackupRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchBackupResponse]:
        yield pb.WatchBackupResponse(backup=pb.Backup(name=request.name, state=pb.STATE_RUNNING))
        self.watched.set()
        self.over.wait(SECONDS)


@pytest.fixture
def path() -> Iterator[Path]:
    with scratch("f") as folder:
        yield folder / "operator.sock"


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    made = Service()  # type: ignore[abstract]  # these methods are enough here
    server = made.server
    grpc_pb.add_DrillServiceServicer_to_server(made, server)
    grpc_pb.add_BackupServiceServicer_to_server(made, server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield made
    finally:
        made.over.set()
        server.stop(None).wait(SECONDS)


@pytest.mark.parametrize(
    ("words", "name", "what_next"),
    [
        (
            ("drill", "run"),
            DRILL,
            DRILL_NEXT,
        ),
        (("drill", "watch", "d1"), DRILL, DRILL_NEXT),
        (("drill", "cancel", "d1"), DRILL, "Follow it: holdfast drill watch drills/d1\n"),
        (("backup", "create"), BACKUP, "Follow it: holdfast backup watch backups/b1\n"),
        (("backup", "watch", "b1"), BACKUP, "Follow it: holdfast backup watch backups/b1\n"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_ends_the_following_and_says_that_the_work_goes_on(
    service: Service, path: Path, words: tuple[str, ...], name: str, what_next: str, as_json: bool
) -> None:
    """It said "Aborted!", and ended as if the drill had failed. One that came early never ended."""
    command = [sys.executable, "-c", PROGRAM, *words, "--socket", str(path), *["--json"] * as_json]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert service.watched.wait(SECONDS)
            child.send_signal(signal.SIGINT)
            out, told = child.communicate(timeout=SECONDS)
        finally:
            child.kill()
    assert child.returncode == 130
    assert f"{name} goes on. {what_next}" in told
    assert "Aborted" not in told
    assert out == ""


def test_a_stream_that_is_refused_or_breaks_off_is_told_as_that(service: Service, path: Path) -> None:
    """The positive control of the channel's option: its streams fail as any other's."""
    refused = CliRunner().invoke(main, ["drill", "watch", "d2", "--socket", str(path)])
    assert (refused.exit_code, refused.stderr) == (3, "Error: There is no such drill.\n")

    def leave() -> None:
        service.watched.wait(SECONDS)
        service.server.stop(None)

    with ThreadPoolExecutor(1) as beside:
        beside.submit(leave)
        broken = CliRunner().invoke(main, ["drill", "watch", "d1", "--socket", str(path)])
    assert broken.exit_code == 4
    assert f"The backup service does not answer on {path} any more" in broken.stderr


def cancelled(service: Service, path: Path, last: pb.Drill, *words: str) -> Result:
    """What the command says of a drill that ends as *last*."""
    service.last = last
    service.over.set()
    return CliRunner().invoke(main, ["drill", "cancel", "d1", "--socket", str(path), *words])


def removed(state: "pb.State.ValueType") -> pb.DrillPhase:
    return pb.DrillPhase(phase="teardown", state=state)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_cancel_that_came_too_late_does_not_say_that_the_drill_failed(
    service: Service, path: Path, words: tuple[str, ...]
) -> None:
    done = cancelled(
        service, path, pb.Drill(name=DRILL, state=pb.STATE_SUCCEEDED, phases=[removed(pb.STATE_SUCCEEDED)]), *words
    )
    assert done.exit_code == 0
    assert done.stderr.endswith(
        "drills/d1 has succeeded: its copy was being removed already, so nothing was left to cancel.\n"
    )


def test_a_cancel_tells_why_the_drill_failed(service: Service, path: Path) -> None:
    error = status_pb2.Status(message="Somebody cancelled it: holdfast drill cancel.")
    last = pb.Drill(name=DRILL, state=pb.STATE_FAILED, error=error, phases=[removed(pb.STATE_SUCCEEDED)])
    done = cancelled(service, path, last)
    assert done.exit_code == 0
    assert done.stderr.endswith("drills/d1 has failed: Somebody cancelled it: holdfast drill cancel.\n")
    last.phases[0].state = pb.STATE_FAILED
    assert cancelled(service, path, last).exit_code == 1  # its copy stands
