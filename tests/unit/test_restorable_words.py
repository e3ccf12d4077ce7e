"""What people are told of the restorable time: `holdfast recovery status`, `make status` and the doctor."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from click.testing import CliRunner, Result

from deploy.stack.status import recovery_lines
from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.cli import main
from services.backup.domain.breach import Breach
from services.backup.domain.heartbeat import Beat
from services.backup.domain.object_rpo import ObjectRpo
from services.backup.domain.status import Status, Window, without
from services.backup.rpc import messages

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST, LAST = "000000010000000000000005", "000000010000000000000007"
LOST = Breach(FIRST, FIRST, 1, NOW, NOW - 3 * HOUR, NOW - 2 * HOUR, "healed")


def told(*lost: Breach) -> pb.GetRecoveryStatusResponse:
    """What the service says of a day of which the pieces of *lost* are gone; a heartbeat each half hour."""
    beats = tuple(Beat(number, NOW - number * HOUR / 2, "0/0", 1, FIRST) for number in range(1, 9))
    seen = without(Window(NOW - 24 * HOUR, NOW, 60.0, beats), lost)
    objects = ObjectRpo(None, "no drill yet")
    return messages.status(Status(seen, 0, LAST, None, 9, None, None, (), objects))


@contextmanager
def answering(found: pb.GetRecoveryStatusResponse, folder: Path) -> Iterator[str]:
    """A socket on which a backup service says *found*."""
    method = grpc.unary_unary_rpc_method_handler(
        lambda request, context: found,
        request_deserializer=pb.GetRecoveryStatusRequest.FromString,
        response_serializer=pb.GetRecoveryStatusResponse.SerializeToString,
    )
    served = grpc.method_handlers_generic_handler("holdfast.backup.v1.BackupService", {"GetRecoveryStatus": method})
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((served,))
    path = folder / "operator.sock"
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield str(path)
    finally:
        server.stop(None).wait()


def ask(found: pb.GetRecoveryStatusResponse, folder: Path, *words: str) -> Result:
    with answering(found, folder) as path:
        return CliRunner().invoke(main, ["recovery", "status", "--socket", path, *words])


def test_a_piece_lost_within_the_restorable_time_is_told_behind_it(tmp_path: Path) -> None:
    done = ask(told(LOST), tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[:2] == [
        "restorable from 2026-11-21 12:00:00.000Z to 2026-11-22 12:00:00.000Z",
        "not restorable from 2026-11-22 09:00:00.000Z to 2026-11-22 10:00:01.000Z:"
        f" WAL segment {FIRST} is lost",
    ]  # fmt: skip
    assert "not restorable" not in ask(told(), tmp_path).stdout


def test_a_piece_lost_within_the_restorable_time_is_told_to_programs(tmp_path: Path) -> None:
    done = ask(told(LOST), tmp_path, "--json")
    assert f'"first_wal": "{FIRST}"' in done.stdout
    assert '"end_time": "2026-11-22T10:00:01Z"' in done.stdout
    assert '"lost_intervals": []' in ask(told(), tmp_path, "--json").stdout


def test_make_status_and_the_doctor_tell_every_lost_piece_behind_the_restorable_time() -> None:
    wide = Breach(FIRST, LAST, 3, NOW, NOW - 3 * HOUR, NOW - 2 * HOUR, "healed")
    *_, window, narrow, more = recovery_lines(told(LOST, wide))
    assert window.startswith("restorable from ")
    assert narrow == (
        f"not restorable from 2026-11-22T09:00:00Z to 2026-11-22T10:00:01Z: WAL segment {FIRST} is lost"
    )  # fmt: skip
    assert more.endswith(f": WAL segments {FIRST} to {LAST} are lost")
    assert recovery_lines(told())[-1] == "restorable from 2026-11-21T12:00:00Z to 2026-11-22T12:00:00Z"


def test_a_heartbeat_in_a_lost_piece_is_no_moment_that_a_drill_can_prove() -> None:
    assert [beat.sequence for beat in told(LOST).recent_heartbeats] == [1, 2, 3, 6, 7, 8]
    assert [beat.sequence for beat in told().recent_heartbeats] == [*range(1, 9)]


def unheard() -> pb.GetRecoveryStatusResponse:
    """What the service says when it could not ask the repository."""
    warnings = ("The repository cannot be read: pgbackrest info: the store does not answer in time (code 42).",)
    objects = ObjectRpo(None, "no drill yet")
    nothing = Window(None, None, None, ())
    return messages.status(Status(nothing, 0, "", None, 9, None, None, warnings, objects, unreadable=True))


def test_a_repository_that_could_not_be_asked_is_not_said_to_hold_no_backup(tmp_path: Path) -> None:
    done = ask(unheard(), tmp_path)
    assert done.exit_code == 1, done.output
    assert done.stdout.splitlines()[0] == "restorable time unknown: the repository could not be read"
    assert "backups unknown: the repository could not be read" in done.stdout.splitlines()
    assert "archived heartbeats unknown; newest written 9" in done.stdout.splitlines()
    assert "no backup" not in done.stdout
    empty = unheard()
    empty.repository_unreadable = False
    assert {"not restorable", "no backup"} <= set(ask(empty, tmp_path).stdout.splitlines())


def test_make_status_and_the_doctor_do_not_say_that_a_repository_which_could_not_be_asked_is_empty() -> None:
    lines = recovery_lines(unheard())
    assert lines[-1] == "restorable: unknown, the repository could not be read"
    assert "live RPO: unknown, of objects unknown" in lines
    assert not [line for line in lines if "no backup" in line]
