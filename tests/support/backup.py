"""A real cluster that archives to a real encrypted pgBackRest repository, and the backup service run on it.

Everything is in one temporary directory, owned by the user Postgres runs as; the repository is a directory there, which
differs from S3 in nothing but the transport. The service is its own process, so that it can be killed at any instruction.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.pgbackrest import conf
from deploy.stack.postgres import Cluster
from tests.support.postgres import PASSWORDS, _ensure_user

STANZA = "holdfast"


def become() -> list[str]:
    """The prefix that runs a command as the user Postgres runs as."""
    if os.geteuid() != 0:
        return ["setpriv", "--no-new-privs", "--"]
    identity = ["--reuid=holdfast", "--regid=holdfast", "--init-groups", "--inh-caps=-all"]
    return ["setpriv", *identity, "--no-new-privs", "--reset-env", "--"]


@dataclass(frozen=True, slots=True)
class Archived:
    """A cluster with its archive. base: 0755; state, run: 0700, the service user's."""

    cluster: Cluster
    base: Path
    config: Path

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
    """A migrated, archiving cluster with its stanza made, gone at the end."""
    if os.geteuid() == 0:
        _ensure_user("holdfast")
    base = Path(tempfile.mkdtemp(prefix="hfb-", dir="/tmp"))
    try:
        found = make(base)
        found.cluster.initialise()
        server = found.cluster.start(base / "postgres.log")
        try:
            found.cluster.bootstrap(PASSWORDS)
            found.cluster.migrate(PASSWORDS["holdfast_owner"])
            found.pgbackrest("stanza-create")
            yield found
        finally:
            found.cluster.stop(server)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def arguments(extra: Sequence[str]) -> list[str]:
    """*extra* behind the prefix of the service user."""
    return [*become(), *extra]
