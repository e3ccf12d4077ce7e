"""A recorded, empty queue for each test, and a cluster of its own where the whole server is to suffer."""

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.stack.postgres import Cluster
from libs.db import migrate
from tests.jobs.faults.fleet import Fleet
from tests.jobs.faults.recorder import Recorder
from tests.support.postgres import PASSWORDS, TestDatabase


@dataclass(slots=True)
class Durable:
    """A database on a cluster that loses nothing it has acknowledged, and that can be crashed."""

    database: TestDatabase
    log: Path
    server: "subprocess.Popen[bytes]"

    def crash(self) -> None:
        """End the server at once, as the loss of power does."""
        self.database.cluster.stop(self.server, immediate=True)

    def recover(self) -> None:
        """Start it again."""
        self.server = self.database.cluster.start(self.log)


@pytest.fixture(scope="module")
def recorder(database: TestDatabase) -> Recorder:
    """Records what happens in this module's database."""
    made = Recorder(database.cluster, database.name)
    made.install()
    return made


@pytest.fixture
async def fleet(database: TestDatabase, recorder: Recorder, tmp_path: Path) -> AsyncIterator[Fleet]:
    """The workers of one test, ended with it."""
    recorder.clear()
    made = Fleet(database, database.connect("files"), recorder, tmp_path)
    yield made
    made.kill_all()
    await made.files.stop()


@pytest.fixture(scope="module")
def durable(cluster: Cluster) -> Iterator[Durable]:
    """With fsync, full pages and synchronous commit; *cluster* only sees to the user it runs as."""
    base = Path(tempfile.mkdtemp(prefix="hfd-", dir="/tmp"))
    base.chmod(0o755)
    made = Cluster(data_dir=base / "data", socket_dir=base / "s", settings={"shared_buffers": "64MB"})
    try:
        made.initialise()
        found = Durable(TestDatabase(made, "holdfast"), base / "postgres.log", made.start(base / "postgres.log"))
        try:
            made.bootstrap(PASSWORDS)
            migrate.upgrade(found.database.url(), ("db",))
            Recorder(made, "holdfast").install()
            yield found
        finally:
            found.crash()
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
async def durable_fleet(durable: Durable, tmp_path: Path) -> AsyncIterator[Fleet]:
    """The workers of one test on the cluster that can be crashed."""
    recorder = Recorder(durable.database.cluster, durable.database.name)
    recorder.clear()
    made = Fleet(durable.database, durable.database.connect("files"), recorder, tmp_path)
    yield made
    made.kill_all()
    await made.files.stop()
