"""The escrow on a real encrypted repository: restoring with it alone, and deep drills that use nothing else."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from deploy.pgbackrest import conf
from deploy.stack.postgres import Cluster
from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.cli import main
from holdfast.escrow import Installation, contents
from tests.support.backup import (
    HEARTBEAT_KEY,
    PYTHON,
    STANZA,
    Archived,
    Operator,
    Service,
    become,
    own,
    service_user,
    wait_until,
)
from tests.support.escrow import installed, operator

ATTEMPTS = 4
PASS = "only-for-tests-a-long-enough-cipher-pass"


@dataclass(frozen=True, slots=True)
class Host:
    """An installation with the secrets of the archived cluster, its operator's key, and its escrow."""

    installation: Installation
    key: Path
    certificate: Path
    escrow: Path

    def export(self, output: Path | None = None) -> Path:
        """A fresh escrow."""
        made = output or self.escrow
        words = ["--recipient", self.certificate, "--output", made, "--state", self.installation.state, "--force"]
        done = run("export", *words)
        assert done.exit_code == 0, done.output
        return made


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["escrow", *map(str, words)])


@pytest.fixture(scope="module")
def host(archived: Archived, tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder = tmp_path_factory.mktemp("operator")
    state = installed(folder / "home" / "state", repository=archived.repository, cipher_pass=PASS)
    conf.write(state / "secrets" / "backup" / "heartbeat_key", HEARTBEAT_KEY.decode())
    conf.write(state / "conf" / "pgbackrest-read.conf", archived.config.read_text())
    made = Host(Installation(state), *operator(folder, "ada"), folder / "escrow.txt")
    made.export()
    return made


@pytest.fixture(scope="module")
def service(archived: Archived) -> Iterator[Service]:
    """The service, told where an operator opens escrows."""
    made = Service(archived, "escrow", escrow_opened=str(archived.base / "run" / "escrow" / "escrow"))
    made.start()
    yield made
    assert made.stop() == 0, made.log.read_text()[-4000:]


@pytest.fixture(scope="module")
def asks(service: Service) -> Iterator[Operator]:
    with Operator(service) as found:
        assert found.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        found.status(advance=True)
        found.status(advance=True)
        yield found


@pytest.fixture
def opened(service: Service, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The host's escrow, opened by its operator where drills look; closed at the end."""
    (tmp_path / "stack.json").write_text(json.dumps({"run_dir": str(service.run)}))
    monkeypatch.setenv("HOLDFAST_STACK", str(tmp_path / "stack.json"))
    open_for_drills(host.escrow, host)
    yield service.run / "escrow"
    assert run("close").exit_code == 0


def open_for_drills(escrow: Path, host: Host) -> None:
    done = run("open", escrow, "--key", host.key, "--for-drills")
    assert done.exit_code == 0, done.output


def deep(asks: Operator) -> tuple[pb.Drill, dict[str, pb.DrillCheck]]:
    ended = asks.drill(kind=pb.DRILL_KIND_DEEP)
    return ended, {check.check: check for check in ended.checks}


@pytest.mark.control("B7", "a restore needs the repository and the escrow alone")
def test_with_the_hosts_secrets_gone_a_database_is_restored_from_the_repository_and_the_escrow(
    archived: Archived, asks: Operator, host: Host
) -> None:
    newest = asks.status(advance=True).newest_heartbeat
    bare = own(archived.base / "bare")
    gone = {secret: secret.with_name("gone") for secret in (host.installation.secrets, archived.config)}
    for secret, elsewhere in gone.items():
        secret.rename(elsewhere)
    try:
        done = run("open", host.escrow, "--key", host.key, "--output", bare / "opened")
        assert done.exit_code == 0, done.output
        engine = ["pgbackrest", f"--config={bare}/opened/pgbackrest.conf", f"--stanza={STANZA}"]
        places = [f"--pg1-path={bare}/data", "--archive-mode=off"]
        told = next(line for line in done.stderr.splitlines() if line.startswith("Then restore:"))
        assert " ".join(engine) in told
        argv = [*become(), *engine, *places, "restore"]
        restored = subprocess.run(argv, check=False, capture_output=True, text=True, cwd="/")
        assert restored.returncode == 0, restored.stdout + restored.stderr
        cluster = Cluster(data_dir=bare / "data", socket_dir=own(bare / "run"), settings={"shared_buffers": "32MB"})
        cluster.configure()
        server = cluster.start(bare / "postgres.log")
        try:
            with cluster.admin(cluster.database) as connection:
                wait_until(lambda: scalar(connection, "SELECT pg_is_in_recovery()") is False, "the promotion")
                assert scalar(connection, "SELECT max(sequence) FROM backup.heartbeats") == newest
        finally:
            cluster.stop(server, immediate=True)
    finally:
        for secret, elsewhere in gone.items():
            elsewhere.rename(secret)
        shutil.rmtree(bare)
    assert asks.status(advance=True).newest_heartbeat > newest


def scalar(connection: "psycopg.Connection[tuple[object, ...]]", question: str) -> object:
    row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_a_deep_drill_without_an_opened_escrow_says_so_by_name_and_never_ok(asks: Operator) -> None:
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert checks["escrow"].verdict == pb.CHECK_VERDICT_NOT_MADE
    assert not checks["escrow"].ok
    assert checks["escrow"].detail.startswith("no escrow opened: there is none in")
    assert (checks["file_opens"].verdict, checks["file_opens"].detail) == (
        pb.CHECK_VERDICT_NOT_MADE,
        checks["escrow"].detail,
    )


@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_a_deep_drill_with_an_opened_escrow_says_which_one_it_restored_with(
    asks: Operator, opened: Path, service: Service
) -> None:
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert checks["escrow"].verdict == pb.CHECK_VERDICT_OK
    assert "came from the escrow of 2" in checks["escrow"].detail
    # The copy sees neither production's server and engine's file nor the opened escrow; all three can be read outside.
    assert checks["isolation_production_unreachable"].detail == "3 of them answer outside, none inside"
    assert service.leftovers == []
    light = {check.check for check in asks.drill(kind=pb.DRILL_KIND_LIGHT).checks}
    assert not {"escrow", "file_opens"} & light
    assert opened.exists()


@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_a_deep_drill_with_the_escrow_of_a_wrong_pass_fails_in_a_sentence_though_this_host_knows_the_right_one(
    asks: Operator, opened: Path, host: Host, tmp_path: Path
) -> None:
    config = host.installation.repository_config
    right = config.read_text()
    config.write_text(right.replace(PASS, "a-pass-of-somebody-else-that-is-long-too"))
    try:
        other = host.export(tmp_path / "other.txt")
    finally:
        config.write_text(right)
    open_for_drills(other, host)
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_FAILED
    assert "does not open the repository: a restore with it would fail now. Export another" in ended.error.message
    assert "escrow" not in checks
    open_for_drills(host.escrow, host)
    assert deep(asks)[0].state == pb.STATE_SUCCEEDED


@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_heartbeats_of_a_deep_drill_are_judged_by_the_escrowed_key(
    asks: Operator, opened: Path, host: Host, tmp_path: Path
) -> None:
    key = host.installation.secrets / "backup" / "heartbeat_key"
    key.write_text("a-key-that-signed-none-of-these-heartbeats")
    try:
        other = host.export(tmp_path / "other.txt")
    finally:
        key.write_text(HEARTBEAT_KEY.decode())
    open_for_drills(other, host)
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_FAILED
    assert "bad signature" in checks["heartbeats"].detail
    assert checks["escrow"].verdict == pb.CHECK_VERDICT_FAILED


@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_the_escrow_of_another_installation_is_not_used_and_never_ok(
    asks: Operator, opened: Path, host: Host, tmp_path: Path
) -> None:
    theirs = installed(tmp_path / "theirs" / "state", repository=tmp_path / "their-repository")
    done = run(
        "export", "--recipient", host.certificate, "--output", tmp_path / "theirs.txt", "--state", theirs, "--json"
    )
    assert done.exit_code == 0, done.output
    compared = run("verify", tmp_path / "theirs.txt", "--key", host.key, "--state", host.installation.state)
    assert (compared.exit_code, f"Stale: {contents.REPOSITORY}" in compared.stderr) == (1, True)
    open_for_drills(tmp_path / "theirs.txt", host)
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert checks["escrow"].verdict == pb.CHECK_VERDICT_NOT_MADE
    assert "of another repository (repo1-path differ)" in checks["escrow"].detail


@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_an_opened_escrow_that_was_changed_is_not_used(asks: Operator, opened: Path) -> None:
    path = opened / "secrets" / "backup" / "heartbeat_key"
    path.write_bytes(path.read_bytes() + b"x")
    _, checks = deep(asks)
    assert checks["escrow"].verdict == pb.CHECK_VERDICT_NOT_MADE
    assert "is not what was escrowed" in checks["escrow"].detail


@pytest.mark.parametrize("content", ["null", "[]", "{}", "not JSON"])
def test_an_opened_escrow_whose_description_is_damaged_is_not_used_and_blocks_no_other_drill(
    asks: Operator, opened: Path, content: str
) -> None:
    """The drill stood in the list as running for ever, and held the lock that backups need."""
    (opened / "opened.json").write_text(content)
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_SUCCEEDED
    assert checks["escrow"].verdict == pb.CHECK_VERDICT_NOT_MADE


def test_an_escrow_that_is_closed_while_its_drill_runs_is_named_as_what_is_gone(
    asks: Operator, opened: Path, host: Host
) -> None:
    """It said that a file of the repository is missing, and to run verify."""
    asks.status(advance=True)
    for _ in range(ATTEMPTS):
        name = asks.begin_drill(kind=pb.DRILL_KIND_DEEP).name
        for drill in asks.watch(name):
            if opened.exists() and any(phase.phase == "restore" for phase in drill.phases):
                assert run("close").exit_code == 0
        ended = asks.get_drill(name)
        open_for_drills(host.escrow, host)
        if ended.state == pb.STATE_FAILED:  # otherwise it was over before
            break
    assert ended.state == pb.STATE_FAILED
    assert "pgbackrest.conf is gone" in ended.error.message
    assert "has to stay open until the drill ends" in ended.error.message
    assert "Run verify" not in ended.error.message
    assert "Export another" not in ended.error.message


def test_somebody_who_may_not_read_the_secrets_is_told_to_be_root_and_gets_no_file(
    host: Host, archived: Archived
) -> None:
    folder = own(archived.base / "stranger")
    certificate = folder / "ada.pem"
    shutil.copyfile(host.certificate, certificate)
    certificate.chmod(0o644)
    mode = host.installation.state.stat().st_mode
    host.installation.state.chmod(0)
    try:
        words = ["--recipient", certificate, "--output", folder / "escrow.txt", "--state", host.installation.state]
        argv = [*become(), str(Path(PYTHON).with_name("holdfast")), "escrow", "export", *map(str, words)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd="/")
    finally:
        host.installation.state.chmod(mode)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert "not yours to read or write. Run this as root." in done.stderr
    assert [path.name for path in folder.iterdir()] == ["ada.pem"]


def test_an_opened_escrow_is_the_services_alone(opened: Path) -> None:
    for path in (opened, *opened.rglob("*")):
        found = path.stat()
        assert (found.st_mode & 0o077, (found.st_uid, found.st_gid)) == (0, service_user())
