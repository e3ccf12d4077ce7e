"""The store of the repository dies while a drill restores from it: a verdict that names it, nothing left, and a drill
that succeeds once it is back.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.pgbackrest import conf
from deploy.stack.seaweed import REGION
from holdfast.backup.v1 import backup_service_pb2 as pb
from tests.support.backup import STANZA, Archived, Operator, Service, make, own, service_user
from tests.support.postgres import PASSWORDS
from tests.support.seaweed import SeaweedServer

pytestmark = pytest.mark.sweep


def move_to_store(archived: Archived, seaweed: SeaweedServer) -> None:
    """Write the engine's file anew: the repository lies in the store."""
    store, server = seaweed.seaweed, archived.cluster
    authority = own(archived.state / "pki") / "ca.pem"
    conf.write(authority, store.ca_file.read_text(), owner=service_user())
    pair = store.identities["backups-keeper"]
    repository = conf.S3(
        bucket="backups", endpoint="localhost", port=store.ports.s3, region=REGION, access_key=pair.access_key,
        secret_key=pair.secret_key, ca_file=authority,
    )  # fmt: skip
    settings = conf.Settings(
        stanza=STANZA,
        repository=repository,
        server=conf.Server(
            data_dir=server.data_dir, socket_dir=server.socket_dir, port=server.port, user="holdfast_pgbackrest",
            database=server.database,
        ),
        work_dir=archived.state / "pgbackrest",
        cipher_pass="only-for-tests-a-third-long-cipher-pass",
    )  # fmt: skip
    conf.write(archived.config, conf.render(settings), owner=service_user())


@pytest.fixture(scope="module")
def stored(archived: Archived, seaweed: SeaweedServer) -> Iterator[Archived]:
    """A cluster of its own that archives to the store, with some hundred MB to restore."""
    base = Path(tempfile.mkdtemp(prefix="hfo-", dir="/tmp"))
    try:
        made = make(base)
        move_to_store(made, seaweed)
        made.cluster.initialise()
        made.start()
        try:
            made.cluster.bootstrap(PASSWORDS)
            made.cluster.migrate(PASSWORDS["holdfast_owner"])
            made.pgbackrest("stanza-create")
            with made.cluster.admin(made.cluster.database) as connection:
                connection.execute(
                    "CREATE TABLE public.filling AS"
                    " SELECT n, encode(sha512(n::text::bytea), 'hex') x FROM generate_series(1, 500000) n"
                )
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_a_store_that_dies_mid_restore_fails_the_drill_and_the_next_one_succeeds(
    stored: Archived, seaweed: SeaweedServer
) -> None:
    service = Service(stored, "dies", engine_io_seconds="2")
    with service, Operator(service) as operator:
        assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        operator.status(advance=True)
        name = operator.begin_drill().name
        try:
            for drill in operator.watch(name, seconds=570):
                running = [phase.phase for phase in drill.phases if phase.state == pb.STATE_RUNNING]
                if running == ["restore"]:
                    seaweed.kill()
        finally:
            seaweed.start()
        ended = operator.get_drill(name)
        assert ended.state == pb.STATE_FAILED
        assert ended.phases[1].state == pb.STATE_FAILED
        assert ended.error.code in (grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.INTERNAL.value[0])
        assert "restore" in ended.error.message
        assert not any(check.ok for check in ended.checks if check.check != "removed")
        assert service.leftovers == []
        assert operator.drill().state == pb.STATE_SUCCEEDED
        assert service.stop() == 0
