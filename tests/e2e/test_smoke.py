"""The smoke of a full drill on a whole stack: the real services, on the copy, serve the canary; and say so when not."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError

from deploy.stack.tour import once_free
from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1.backup_service_pb2_grpc import BackupServiceStub, DrillServiceStub
from tests.support.escrow import operator as escrow_operator
from tests.support.stack import Stack

DRAWS = 10
SMOKE = ("sign_in", "download", "event")


class Operator:
    """Calls on the operator socket of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.channel = grpc.insecure_channel(f"unix:{stack.layout.operator_socket}")
        self.backups, self.drills = BackupServiceStub(self.channel), DrillServiceStub(self.channel)

    def back_up(self) -> None:
        asked = pb.CreateBackupRequest(backup=pb.Backup(type=pb.BACKUP_TYPE_FULL))
        made = once_free(lambda: self.backups.CreateBackup(asked, timeout=60)).backup
        for update in self.backups.WatchBackup(pb.WatchBackupRequest(name=made.name), timeout=120):
            made = update.backup
        assert made.state == pb.STATE_SUCCEEDED, made

    def beat(self) -> pb.Heartbeat:
        return self.backups.CreateHeartbeat(pb.CreateHeartbeatRequest(), timeout=60).heartbeat

    def drill(self, **fields: Any) -> pb.Drill:
        """A drill, to its end: without *fields* a chosen one with the full checks, of the newest moment."""
        wanted = pb.Drill(**fields or {"full_checks": True})
        asked = pb.CreateDrillRequest(drill=wanted)
        done = once_free(lambda: self.drills.CreateDrill(asked, timeout=60)).drill
        for update in self.drills.WatchDrill(pb.WatchDrillRequest(name=done.name), timeout=120):
            done = update.drill
        return done


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Iterator[Operator]:
    made = Operator(stack)
    made.back_up()
    made.beat()
    yield made
    made.channel.close()


def verdicts(drill: pb.Drill) -> dict[str, tuple[str, str]]:
    """Of the smoke: check → verdict and detail."""
    return {
        one.check: (pb.CheckVerdict.Name(one.verdict).removeprefix("CHECK_VERDICT_"), one.detail)
        for one in drill.checks
        if one.check in SMOKE
    }


def canary(stack: Stack) -> dict[str, Any]:
    return dict(json.loads(stack.layout.canary_file.read_text()))


@contextmanager
def altered(stack: Stack, **fields: str) -> Iterator[None]:
    """The canary's description says something else for a moment."""
    path: Path = stack.layout.canary_file
    before = path.read_bytes()
    path.write_text(json.dumps({**json.loads(before), **fields}))
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.mark.stack
def test_the_real_services_serve_the_canary_on_a_full_drills_copy_and_nothing_of_it_reaches_production(
    stack: Stack, operator: Operator
) -> None:
    cluster = stack.parts.cluster

    def sessions() -> Any:
        with cluster.admin(cluster.database) as connection:
            return connection.execute("SELECT count(*) FROM auth.sessions").fetchone()

    before = sessions()
    done = operator.drill()

    assert done.state == pb.STATE_SUCCEEDED, done
    found = verdicts(done)
    assert {name: verdict for name, (verdict, _) in found.items()} == dict.fromkeys(SMOKE, "OK"), found
    names = [phase.phase for phase in done.phases]
    assert names[names.index("check") :] == ["check", "smoke", "scrub", "teardown"]
    phase = next(one for one in done.phases if one.phase == "smoke")
    assert phase.state == pb.STATE_SUCCEEDED
    assert phase.elapsed_seconds > 0
    assert sessions() == before
    left = [one for one in Path("/proc").glob("[0-9]*/cmdline") if f"drill={stack.layout.run}".encode() in told(one)]
    assert left == []


def told(path: Path) -> bytes:
    """A process's command line, nothing when it has ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.stack
def test_a_smoke_says_failed_when_the_canarys_object_is_missing_or_its_password_is_another_one(
    stack: Stack, operator: Operator
) -> None:
    known = canary(stack)
    client = store(stack)
    user, key = known["user"].rsplit("/", 1)[1], known["file"].rsplit("/", 1)[1]
    (one,) = (found["Key"] for found in client.list_objects_v2(Bucket="files", Prefix=f"{user}/{key}/")["Contents"])
    content = client.get_object(Bucket="files", Key=one)["Body"].read()
    client.delete_object(Bucket="files", Key=one)
    try:
        lost = verdicts(operator.drill())
    finally:
        client.put_object(Bucket="files", Key=one, Body=content)
    with altered(stack, password="quite-another-password-of-nobody"):
        strange = verdicts(operator.drill())

    # The control of each is beside it: what was not broken is served.
    assert {name: verdict for name, (verdict, _) in lost.items()} == {
        "sign_in": "OK", "download": "FAILED", "event": "OK",
    }, lost  # fmt: skip
    assert strange["sign_in"][0] == "FAILED", strange
    assert "UNAUTHENTICATED" in strange["sign_in"][1]
    assert (strange["download"][0], strange["event"][0]) == ("FAILED", "FAILED")


@pytest.mark.stack
@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_a_deep_drill_by_an_opened_escrow_opens_a_file_with_its_roots_and_smokes_as_well(
    stack: Stack, operator: Operator, tmp_path: Path
) -> None:
    # A deep drill stops between two heartbeats, and both are archived by now.
    operator.beat()
    operator.back_up()
    key, certificate = escrow_operator(tmp_path, "ada")
    file = tmp_path / "escrow.txt"
    holdfast(stack, "escrow", "export", "--recipient", certificate, "--output", file)
    holdfast(stack, "escrow", "open", file, "--key", key, "--for-drills")
    try:
        # A moment is drawn, and in the stack's first minute there was no canary yet.
        for _ in range(DRAWS):
            done = operator.drill(kind=pb.DRILL_KIND_DEEP)
            assert done.state == pb.STATE_SUCCEEDED, done
            if not all("before the canary was made" in detail for _, detail in verdicts(done).values()):
                break
    finally:
        holdfast(stack, "escrow", "close")

    made = {one.check: pb.CheckVerdict.Name(one.verdict) for one in done.checks}
    asked = ("escrow", "file_opens", *SMOKE)
    assert {name: made[name] for name in asked} == dict.fromkeys(asked, "CHECK_VERDICT_OK")


def holdfast(stack: Stack, *words: object) -> None:
    command = [stack.document["cli"], "--stack", str(stack.layout.stack_json), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.stack
def test_the_stores_identity_that_a_smoke_reads_with_is_refused_an_upload(stack: Stack) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        store(stack, "files-read").put_object(Bucket="files", Key="canary", Body=b"never")
    writer = store(stack)
    writer.put_object(Bucket="files", Key="canary", Body=b"for a moment")
    writer.delete_object(Bucket="files", Key="canary")


def store(stack: Stack, identity: str = "files") -> Any:
    """A client of the stack's object store as *identity*."""
    return stack.parts.store._client(identity, 10.0)
