"""A real cluster that archives to a real encrypted pgBackRest repository, and the backup service run on it.

Everything is in one temporary directory, owned by the user Postgres runs as; the repository is a directory there, which
differs from S3 in nothing but the transport. The service is its own process, so that it can be killed at any point.

The service's user may not be able to read the checkout, so what runs as that user is what is installed; the fixture
`archived` installs the checkout first (a moment when nothing changed).
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from deploy.pgbackrest import conf
from deploy.stack.credentials import fresh_signing_key
from deploy.stack.layout import checkout_home
from deploy.stack.postgres import Cluster, binaries
from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1.backup_service_pb2_grpc import BackupServiceStub, DrillServiceStub
from holdfast.usertoken.keys import Key, Keys, write_keys
from tests.support.postgres import PASSWORDS, _ensure_user
from tests.support.scratch import scratch
from tests.support.stack import install

STANZA = "holdfast"
HEARTBEAT_KEY = b"heartbeats-of-the-tests-are-signed-with-this"
PYTHON = str(checkout_home() / "venv" / "bin" / "python")
"""The interpreter with the services installed: the service's user can run it, wherever the checkout is."""


def become() -> list[str]:
    """The prefix that runs a command as the user Postgres runs as, with nothing of this process's environment."""
    if os.geteuid() != 0:
        return ["env", "-i", f"PATH={os.environ['PATH']}", "setpriv", "--no-new-privs", "--"]
    identity = ["--reuid=holdfast", "--regid=holdfast", "--init-groups", "--inh-caps=-all"]
    return ["setpriv", *identity, "--no-new-privs", "--reset-env", "--"]


@dataclass(slots=True)
class Archived:
    """A cluster with its archive. base: 0755; state, run: 0700, the service user's."""

    cluster: Cluster
    base: Path
    config: Path
    server: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the server."""
        self.server = self.cluster.start(self.base / "postgres.log")

    def stop(self) -> None:
        """Stop the server."""
        if self.server is not None:
            self.cluster.stop(self.server)
            self.server = None

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def run(self) -> Path:
        return self.base / "run"

    @property
    def repository(self) -> Path:
        return self.state / "repository"

    def pgbackrest(self, *arguments: str) -> str:
        """What one call of the engine printed. Raises when it fails."""
        argv = [*become(), *conf.command(self.config, STANZA, *arguments)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def own(path: Path, mode: int = 0o700) -> Path:
    """*path* as a directory of the service user."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if os.geteuid() == 0:
        shutil.chown(path, "holdfast", "holdfast")
    return path


def service_user() -> tuple[int, int]:
    """uid and gid the service runs as."""
    entry = pwd.getpwnam("holdfast") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return entry.pw_uid, entry.pw_gid


def make(base: Path) -> Archived:
    """A cluster in *base*, configured to archive; nothing runs yet."""
    base.chmod(0o755)
    state = own(base / "state")
    own(base / "run")
    own(state / "conf")
    work = own(state / "pgbackrest")
    own(work / "log")
    own(state / "repository")
    settings = conf.Settings(
        stanza=STANZA,
        repository=conf.Directory(path=state / "repository"),
        server=conf.Server(
            data_dir=state / "data", socket_dir=base / "run" / "pg", port=5432, user="holdfast_pgbackrest",
            database="holdfast",
        ),
        work_dir=work,
        cipher_pass="only-for-tests-a-long-enough-cipher-pass",
    )  # fmt: skip
    config = state / "conf" / "pgbackrest.conf"
    conf.write(config, conf.render(settings), owner=service_user())
    archive = conf.archive_command(config, STANZA)
    cluster = Cluster(
        data_dir=state / "data", socket_dir=base / "run" / "pg", archive_command=archive,
        settings={"shared_buffers": "64MB", "wal_compression": "on"},
    )  # fmt: skip
    return Archived(cluster, base, config)


@pytest.fixture(scope="session")
def archived() -> Iterator[Archived]:
    """The session's cluster that archives."""
    with archiving() as found:
        yield found


@contextmanager
def archiving() -> Iterator[Archived]:
    """A migrated, archiving cluster with its stanza made, gone at the end."""
    install()
    if os.geteuid() == 0:
        _ensure_user("holdfast")
    with scratch("b") as base:
        found = make(base)
        found.cluster.initialise()
        found.start()
        try:
            found.cluster.bootstrap(PASSWORDS)
            found.cluster.migrate(PASSWORDS["holdfast_owner"])
            found.pgbackrest("stanza-create")
            yield found
        finally:
            found.stop()


class Service:
    """The backup service as its own process and the service user's. Started after a kill, it is the reaper."""

    def __init__(self, archived: Archived, name: str, **settings: str) -> None:
        base = archived.base
        self.archived = archived
        self.state = own(archived.state / f"service-{name}")
        self.run = own(base / "run" / name)
        self.operator_socket = self.run / "operator" / "operator.sock"
        self.log = base / f"service-{name}.log"
        self._environment = self._settings(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._write_secrets()

    def start(self) -> None:
        """Run it and wait until it answers on the operator socket."""
        environment = [f"{name}={value}" for name, value in self._environment.items()]
        argv = [*become(), "env", *environment, PYTHON, "-m", "services.backup", "serve"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        wait_until(lambda: self._listens() or self._ended(), "the operator socket")
        assert not self._ended(), self.log.read_text()[-4000:]

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A test that failed did not stop it.
        if not self._ended():
            self.kill()

    def kill(self) -> None:
        """End it at this very instruction."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self.operator_socket.unlink(missing_ok=True)

    def stop(self) -> int:
        """End it in order; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    @property
    def leftovers(self) -> list[str]:
        """What a drill left: directories of copies and of their sockets, and processes that name them or work there."""
        copies = self.state / "copies"
        found = [str(path) for path in copies.iterdir()] if copies.exists() else []
        found += [str(path) for path in self.run.glob("d*") if path.is_dir()]
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                works_in = os.readlink(entry.with_name("cwd"))
            except OSError:
                continue
            if str(copies) in line or works_in.startswith(f"{copies.resolve()}/"):
                found.append(line)
        return found

    def _listens(self) -> bool:
        """Whether somebody answers on the operator socket: its path is there a moment earlier."""
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self.operator_socket)) == 0

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _settings(self, settings: dict[str, str]) -> dict[str, str]:
        cluster = self.archived.cluster
        values = {
            "run_dir": str(self.run),
            "grpc_address": f"unix:{self.run}/backup.grpc.sock",
            "database_host": str(cluster.socket_dir),
            "database_port": str(cluster.port),
            "database_name": cluster.database,
            "database_user": "holdfast_backup",
            "database_tls": "off",
            "secrets_dir": str(self.state / "secrets"),
            "edge_notice_seconds": "0",
            "drain_seconds": "10",
            "operator_socket": str(self.operator_socket),
            "state_dir": str(self.state),
            "pgbackrest_config": str(self.archived.config),
            "postgres_binaries": str(binaries()),
            "hidden_paths": str(self.archived.state),
            "heartbeat_seconds": "300",
            "schedule": "false",
            "drill_light_seconds": "0",
            "drill_deep_seconds": "0",
        } | settings
        return {f"HOLDFAST_{name.upper()}": value for name, value in values.items()}

    def _write_secrets(self) -> None:
        where = own(self.state / "secrets")
        keys = write_keys(Keys(Key("k1", secrets.token_bytes(32))))
        given = {
            "database_password": PASSWORDS["holdfast_backup"],
            "page_key": secrets.token_urlsafe(32).encode(),
            "heartbeat_key": HEARTBEAT_KEY,
            "evidence_key": fresh_signing_key(),
            "user_token_keys": keys,
        }
        for name, value in given.items():
            conf.write(where / name, value.decode(), owner=service_user())


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
    """Return once *condition* holds; fail when it does not within *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        threading.Event().wait(0.02)


@pytest.fixture(scope="module")
def service(archived: Archived, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service, running; its log is shown when it could not be ended in order."""
    name = request.module.__name__.rpartition("_")[2][:8]
    made = Service(archived, name)
    made.start()
    yield made
    code = made.stop()
    assert code == 0, made.log.read_text()[-4000:]


class Operator:
    """The calls of an operator on the service's socket."""

    def __init__(self, service: Service) -> None:
        self.channel = grpc.insecure_channel(
            f"unix:{service.operator_socket}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.backups = BackupServiceStub(self.channel)
        self.drills = DrillServiceStub(self.channel)

    def __enter__(self) -> "Operator":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def status(self, *, advance: bool = False) -> pb.GetRecoveryStatusResponse:
        """The recovery status."""
        if advance:
            self.backups.CreateHeartbeat(pb.CreateHeartbeatRequest(), timeout=60)
        return self.backups.GetRecoveryStatus(pb.GetRecoveryStatusRequest(), timeout=60)

    def back_up(self, type: "pb.BackupType.ValueType") -> pb.Backup:
        """A backup, followed to its end."""
        made = self.backups.CreateBackup(pb.CreateBackupRequest(backup=pb.Backup(type=type)), timeout=60).backup
        for update in self.backups.WatchBackup(pb.WatchBackupRequest(name=made.name), timeout=120):
            made = update.backup
        return made

    def begin_drill(self, at: datetime | None = None, backup: str = "", **fields: Any) -> pb.Drill:
        """A drill, just begun; *fields* of the message beside its target."""
        target = pb.DrillTarget(backup=backup)
        if at is not None:
            target.time.FromDatetime(at)
        asked = pb.Drill(target=target, **fields)
        return self.drills.CreateDrill(pb.CreateDrillRequest(drill=asked), timeout=60).drill

    def watch(self, name: str, *, seconds: float = 120) -> Iterator[pb.Drill]:
        """Every state of a drill until it has ended."""
        for update in self.drills.WatchDrill(pb.WatchDrillRequest(name=name), timeout=seconds):
            yield update.drill

    def ended(self, name: str) -> pb.Drill:
        """The drill at its end, which is waited for."""
        *_, last = self.watch(name)
        return last

    def drill(self, at: datetime | None = None, backup: str = "", **fields: Any) -> pb.Drill:
        """A drill, followed to its end."""
        return self.ended(self.begin_drill(at, backup, **fields).name)

    def get_drill(self, name: str) -> pb.Drill:
        """The drill as it is now."""
        return self.drills.GetDrill(pb.GetDrillRequest(name=name), timeout=60).drill


def reason_of(error: grpc.RpcError) -> str:
    """The ErrorInfo reason a call was refused with."""
    call: Any = error
    raw = dict(call.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(raw).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


@contextmanager
def refused(code: grpc.StatusCode, reason: str, words: str | None = None) -> Iterator[None]:
    """The call inside is refused with this code and this reason, and in *words*, a pattern."""
    with pytest.raises(grpc.RpcError, match=words) as caught:
        yield
    error: Any = caught.value
    assert (error.code(), reason_of(error)) == (code, reason)


def middle(earlier: pb.Heartbeat, later: pb.Heartbeat) -> datetime:
    """The moment between two heartbeats."""
    begin, end = earlier.create_time.ToDatetime(), later.create_time.ToDatetime()
    return begin + (end - begin) / 2
