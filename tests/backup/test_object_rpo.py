"""The RPO of objects is published in every surface: none lost, so much lost, or unknown, which is never zero."""

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.cli import main
from tests.support.backup import Archived, Operator, Service
from tests.support.objects import BYTES, ROW, Connection, alone, beside
from tests.support.scrape import metrics_at, value
from tests.support.seaweed import SeaweedServer

REMOVAL = """
INSERT INTO jobs.jobs (id, service, type, payload, state, created_at, run_at, max_attempts, timeout_seconds)
VALUES ('removal', 'files', 'remove_file', '{}', 'dead', now(), now() + %s::interval, 1, 1)
"""


@dataclass(slots=True)
class Published:
    """What each surface says now. seconds: None where it says that it does not know."""

    status: pb.ObjectRpo
    text: str
    document: dict[str, Any]
    metric: float

    @property
    def seconds(self) -> set[float | None]:
        """The figure of all of them, once for each that differs."""
        given = self.status.seconds if self.status.HasField("seconds") else None
        (line,) = [line for line in self.text.splitlines() if line.startswith("RPO of objects ")]
        told = None if line.startswith("RPO of objects unknown: ") else float(line.split()[3])
        found = [given, told, self.document.get("seconds"), None if math.isnan(self.metric) else self.metric]
        return {None if one is None else round(one, 1) for one in found}


def published(service: Service, operator: Operator) -> Published:
    def command(*words: str) -> str:
        return CliRunner().invoke(main, ["recovery", "status", "--socket", str(service.operator_socket), *words]).stdout

    told = json.loads(command("--json"))["object_rpo"]
    metric = value(service, "backup_objects_rpo_seconds")
    return Published(operator.status().object_rpo, command(), told, metric)


def proven(service: Service, drill: pb.Drill, folder: Path) -> tuple[dict[str, Any], str]:
    """What customers get of *drill*: the facts of its signed record, and the page."""
    for name in ("all.jsonl", "all.html"):
        words = ["evidence", "export", "--customer", "--force", "--output", str(folder / name)]
        done = CliRunner().invoke(main, [*words, "--socket", str(service.operator_socket)])
        assert done.exit_code == 0, done.output
    bodies = [json.loads(line).get("body", {}) for line in (folder / "all.jsonl").read_text().splitlines()]
    (facts,) = [body["facts"] for body in bodies if body.get("subject") == drill.name]
    return facts, (folder / "all.html").read_text()


@pytest.fixture
def compared(archived: Archived, seaweed: SeaweedServer, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service whose drills can ask the store; it has not drilled yet, and there is a backup."""
    name = f"r{zlib.crc32(request.node.name.encode()):08x}"
    made = beside(archived, seaweed, name, metrics_address=metrics_at(archived, name))
    with made:
        with Operator(made) as operator:
            assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        yield made
        assert made.stop() == 0


def store(connection: Connection, seaweed: SeaweedServer, *versions: str) -> None:
    """A row of each version with its object."""
    for version in versions:
        connection.execute(ROW, [version])
        seaweed.client("files").put_object(Bucket="files", Key=f"u/f/{version}", Body=BYTES)


@pytest.mark.control("B8", "the RPO of objects is published")
def test_the_rpo_of_objects_is_unknown_before_a_drill_and_nothing_after_a_good_one(
    compared: Service, archived: Archived, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    with Operator(compared) as operator, alone(archived) as connection:
        before = published(compared, operator)
        assert before.seconds == {None}
        assert "no drill has compared" in before.status.unknown_reason

        store(connection, seaweed, "01older", "02newer")
        operator.status(advance=True)
        good = operator.drill()
        assert good.state == pb.STATE_SUCCEEDED, good
        whole = published(compared, operator)
        assert whole.seconds == {0.0}
        assert (whole.status.drill, whole.status.sampled_rows) == (good.name, 2)
        assert whole.status.drill_end_time == good.end_time
        assert whole.status == good.object_rpo
        assert f"2 rows sampled by {good.name} of " in whole.text
        facts, page = proven(compared, good, tmp_path)
        assert (facts["objects_rpo_ms"], facts["objects_sampled"]) == (0, 2)
        assert "0.0 s (2 sampled)" in page


@pytest.mark.control("B8", "the RPO of objects is published")
def test_the_rpo_of_objects_reaches_back_to_the_oldest_row_that_has_lost_its_object(
    compared: Service, archived: Archived, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    with Operator(compared) as operator, alone(archived) as connection:
        store(connection, seaweed, "01older", "02newer", "03whole")
        asked = "UPDATE files.versions SET finished_at = now() - interval '3 hours' WHERE id = '01older'"
        ((finished_at,),) = connection.execute(f"{asked} RETURNING finished_at".encode()).fetchall()
        for version in ("01older", "02newer"):
            seaweed.client("files").delete_object(Bucket="files", Key=f"u/f/{version}")
        operator.status(advance=True)
        bad = operator.drill()
        assert bad.state == pb.STATE_FAILED
        lost = published(compared, operator)
        assert isinstance(finished_at, datetime)
        since = bad.end_time.ToDatetime(tzinfo=UTC) - finished_at
        assert lost.status.seconds == pytest.approx(since.total_seconds(), abs=0.001)
        assert lost.seconds == {round(lost.status.seconds, 1)}
        assert (lost.status.drill, lost.status.sampled_rows) == (bad.name, 3)
        assert any(bad.name in warning for warning in operator.status().warnings)
        facts, page = proven(compared, bad, tmp_path)
        assert facts["objects_rpo_ms"] == pytest.approx(lost.status.seconds * 1000, abs=1)
        assert "3.0 h (3 sampled)" in page

    # The figure is the drills' own: another process reads it from their journals.
    assert compared.stop() == 0
    compared.start()
    with Operator(compared) as operator:
        assert published(compared, operator).status == lost.status


def test_what_a_drill_could_not_look_at_is_unknown_and_not_the_figure_of_before(
    compared: Service, archived: Archived, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    with Operator(compared) as operator, alone(archived) as connection:
        operator.status(advance=True)
        # No file at all: nothing was asked for, so nothing is proven.
        empty = operator.drill()
        assert empty.state == pb.STATE_SUCCEEDED, empty
        assert published(compared, operator).seconds == {None}

        store(connection, seaweed, "01kept")
        operator.status(advance=True)
        operator.drill()
        assert published(compared, operator).seconds == {0.0}
        seaweed.kill()
        try:
            away = operator.drill()
        finally:
            seaweed.start()
        assert away.state == pb.STATE_SUCCEEDED, away
        unknown = published(compared, operator)
        assert unknown.seconds == {None}
        assert "away" in unknown.status.unknown_reason
        facts, page = proven(compared, away, tmp_path)
        assert facts["objects_rpo_ms"] is None
        assert "0.0 s (1 sampled)" in page  # of the drill before
        assert "(0 sampled)" not in page


def test_bytes_that_do_not_outlive_their_delete_until_the_restored_moment_make_it_unknown(
    compared: Service, archived: Archived, seaweed: SeaweedServer
) -> None:
    with Operator(compared) as operator, alone(archived) as connection:
        store(connection, seaweed, "01kept")
        for kept, figure in (("30 days", 0.0), ("0 days", None)):
            connection.execute("DELETE FROM jobs.jobs WHERE id = 'removal'")
            connection.execute(REMOVAL, [kept])
            operator.status(advance=True)
            ended = operator.drill()
            (check,) = [check for check in ended.checks if check.check == "deletes_lag"]
            assert check.count == 1
            assert (check.verdict == pb.CHECK_VERDICT_OK) == (figure is not None), check
            assert published(compared, operator).seconds == {figure}
        connection.execute("DELETE FROM jobs.jobs WHERE id = 'removal'")
