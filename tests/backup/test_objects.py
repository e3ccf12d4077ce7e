"""A drill compares the rows of files with the objects of their bytes, both ways, and may only read them."""

from collections.abc import Iterator

import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from tests.support.backup import Archived, Operator, Service
from tests.support.objects import BYTES, FILE, ROW, alone, beside
from tests.support.seaweed import SeaweedServer


@pytest.fixture(scope="module")
def compared(archived: Archived, seaweed: SeaweedServer) -> Iterator[Service]:
    """A service that was given a read-only identity of the store."""
    service = beside(archived, seaweed, "objects")
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
            put(version, BYTES)
        operator.status(advance=True)
        good = operator.drill()
        put("01torn", BYTES[1:])
        connection.execute(ROW, ["01lost"])
        put("01stranger", BYTES)
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


def test_a_deleted_file_whose_bytes_are_gone_is_no_loss(
    operator: Operator, archived: Archived, seaweed: SeaweedServer
) -> None:
    """An old copy has tombstones whose time was over before the drill; their rows stay until the bytes are gone."""
    with alone(archived) as connection:
        connection.execute(FILE)
        connection.execute(ROW, ["01gone"])
        operator.status(advance=True)
        # The control: while the file is not deleted, its bytes are missing.
        missing, _ = both(operator.drill())
        connection.execute("UPDATE files.files SET deleted_at = now()")
        operator.status(advance=True)
        gone, _ = both(operator.drill())

    assert (missing.verdict, missing.count) == (pb.CHECK_VERDICT_FAILED, 1)
    assert (gone.verdict, gone.count) == (pb.CHECK_VERDICT_OK, 0)
