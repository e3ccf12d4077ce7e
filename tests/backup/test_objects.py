"""A drill compares the rows of files with the objects of their bytes, both ways, and may only read them."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from deploy.pgbackrest import conf
from deploy.stack.seaweed import REGION
from holdfast.backup.v1 import backup_service_pb2 as pb
from tests.support.backup import Archived, Operator, Service, own, service_user
from tests.support.seaweed import SeaweedServer

ROW = """
INSERT INTO files.versions (organization_id, user_id, id, object_id, path, state, declared_bytes, content_type,
                            created_at, expires_at, file_id, size_bytes, sha256, generation, finished_at)
VALUES ('o', 'u', %s, 'f', 'p', 'ready', 4, '', now(), now(), 'f', 4, sha256(''), 1, now())
"""


@pytest.fixture(scope="module")
def compared(archived: Archived, seaweed: SeaweedServer) -> Iterator[Service]:
    """A service that was given a read-only identity of the store."""
    store, client = seaweed.seaweed, seaweed.client("files")
    # Other tests' objects, which this database has no rows of.
    for one in client.list_objects_v2(Bucket="files").get("Contents", []):
        client.delete_object(Bucket="files", Key=one["Key"])
    authority = own(archived.state / "pki") / "files-ca.pem"
    conf.write(authority, store.ca_file.read_text(), owner=service_user())
    service = Service(
        archived, "objects", files_endpoint=f"https://localhost:{store.ports.s3}", files_region=REGION,
        files_ca_file=str(authority),
    )  # fmt: skip
    pair = store.identities["files-read"]
    for name, value in (("files_access_key", pair.access_key), ("files_secret_key", pair.secret_key)):
        conf.write(service.state / "secrets" / name, value, owner=service_user())
    service.start()
    yield service
    assert service.stop() == 0


@pytest.fixture(scope="module")
def operator(compared: Service) -> Iterator[Operator]:
    with Operator(compared) as found:
        assert found.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        found.status(advance=True)
        yield found


def both(drill: pb.Drill) -> tuple[pb.DrillCheck, pb.DrillCheck]:
    found = {check.check: check for check in drill.checks}
    return found["objects_of_rows"], found["rows_of_objects"]


@contextmanager
def alone(archived: Archived) -> "Iterator[psycopg.Connection[tuple[object, ...]]]":
    """A connection whose rows of versions stand alone: no user refers to them, so that nothing else is wrong."""
    with archived.cluster.admin(archived.cluster.database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("CREATE TABLE public.aside AS SELECT * FROM files.versions")
        connection.execute("ALTER TABLE files.versions DROP CONSTRAINT versions_user_fkey")
        connection.execute("ALTER TABLE files.versions DROP CONSTRAINT versions_organization_id_user_id_file_id_fkey")
        yield connection
        connection.execute("DELETE FROM files.versions")
        connection.execute("DROP TABLE public.aside")
        connection.execute(
            "ALTER TABLE files.versions ADD CONSTRAINT versions_user_fkey FOREIGN KEY (organization_id, user_id)"
            " REFERENCES auth.users (organization_id, id),"
            " ADD CONSTRAINT versions_organization_id_user_id_file_id_fkey"
            " FOREIGN KEY (organization_id, user_id, file_id) REFERENCES files.files (organization_id, user_id, id)"
        )


@pytest.mark.control("B8", "each drill compares rows and objects both ways")
def test_rows_without_their_object_and_objects_without_a_row_are_found(
    operator: Operator, archived: Archived, seaweed: SeaweedServer
) -> None:
    client = seaweed.client("files")

    def put(version: str, body: bytes) -> None:
        client.put_object(Bucket="files", Key=f"u/f/{version}", Body=body)

    with alone(archived) as connection:
        for version in ("01known", "01torn"):
            connection.execute(ROW, [version])
            put(version, b"kept")
        operator.status(advance=True)
        good = operator.drill()
        put("01torn", b"kep")
        connection.execute(ROW, ["01lost"])
        put("01stranger", b"kept")
        operator.status(advance=True)
        operator.status(advance=True)
        bad = operator.drill()

    of_rows, of_objects = both(good)
    assert good.state == pb.STATE_SUCCEEDED, good
    assert (of_rows.verdict, of_rows.count) == (pb.CHECK_VERDICT_OK, 2)
    assert (of_objects.verdict, of_objects.count) == (pb.CHECK_VERDICT_OK, 2)
    of_rows, of_objects = both(bad)
    assert bad.state == pb.STATE_FAILED
    assert of_rows.verdict == of_objects.verdict == pb.CHECK_VERDICT_FAILED
    assert {"u/f/01lost", "u/f/01torn"} == set(of_rows.detail.removeprefix("without their object: ").split("; "))
    assert of_objects.detail == "known to no row: u/f/01stranger"


def test_a_store_that_is_away_is_said_and_vouches_for_nothing(operator: Operator, seaweed: SeaweedServer) -> None:
    seaweed.kill()
    try:
        ended = operator.drill()
    finally:
        seaweed.start()
    of_rows, of_objects = both(ended)
    assert of_objects.verdict == pb.CHECK_VERDICT_NOT_MADE
    assert "away" in of_objects.detail
    assert not of_objects.ok
    assert of_rows.verdict in (pb.CHECK_VERDICT_NOT_MADE, pb.CHECK_VERDICT_OK)
    assert ended.state == pb.STATE_SUCCEEDED
