"""Drills and a hole in the archive that is known: what lies across it is refused and never drawn."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from services.backup.domain.breach import Breach
from tests.support.backup import Operator, Service, middle, refused, service_user


@pytest.fixture
def beats(service: Service) -> Iterator[list[pb.Heartbeat]]:
    """Archived ones behind a backup, ascending; whatever hole a test declares is forgotten again."""
    with Operator(service) as operator:
        assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        for _ in range(3):
            status = operator.status(advance=True)
    yield list(status.recent_heartbeats)[2::-1]
    service.kill()
    for path in (service.state / "breaches").glob("*.json"):
        path.unlink()
    service.start()


def declare(service: Service, begin: datetime, end: datetime) -> None:
    """As if the watch had found a hole that cost the time from *begin* to *end*."""
    name, begin, end = "000000010000000000000001", begin.replace(tzinfo=UTC), end.replace(tzinfo=UTC)
    found = Breach(name, name, 1, end, begin, end, "healed")
    service.kill()
    path = service.state / "breaches" / f"{found.id}.json"
    path.write_text(json.dumps(found.to_json()), encoding="utf-8")
    os.chown(path, *service_user())
    service.start()


def test_a_moment_in_a_known_hole_is_refused_with_its_ends_and_one_before_it_is_reached(
    service: Service, beats: list[pb.Heartbeat]
) -> None:
    before, inside = middle(beats[0], beats[1]), middle(beats[1], beats[2])
    declare(service, middle(beats[0], beats[2]), inside + timedelta(days=1))
    with Operator(service) as operator:
        assert operator.drill(before).state == pb.STATE_SUCCEEDED
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "TARGET_NOT_ARCHIVED"):
            operator.begin_drill(inside)


def test_a_deep_drill_is_not_drawn_into_a_known_hole(service: Service, beats: list[pb.Heartbeat]) -> None:
    begin = middle(beats[0], beats[1]) + timedelta(microseconds=1)
    declare(service, begin, begin + timedelta(days=1))
    with Operator(service) as operator:
        for _ in range(2):
            ended = operator.drill(kind=pb.DRILL_KIND_DEEP)
            assert ended.state == pb.STATE_SUCCEEDED, ended
            assert ended.proof.heartbeat < beats[1].sequence
