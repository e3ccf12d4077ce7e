"""Drills that nobody asks for: begun by the service itself, one at a time, and refused in a way that can be seen."""

import math

import grpc
import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from tests.support.backup import Archived, Operator, Service, refused, wait_until
from tests.support.scrape import metrics_at, value


@pytest.fixture(scope="module")
def backed_up(service: Service) -> Service:
    with Operator(service) as operator:
        assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        operator.status(advance=True)
        operator.status(advance=True)
    return service


@pytest.mark.control("B3", "drills run on a schedule and their absence alerts")
def test_light_and_deep_drills_run_in_turn_by_themselves_and_are_seen(archived: Archived, backed_up: Service) -> None:
    own = Service(
        archived, "table", drill_light_seconds="1", drill_deep_seconds="2", drill_jitter_seconds="0",
        metrics_address=metrics_at(archived, "table"),
    )  # fmt: skip
    with own, Operator(own) as operator:
        assert value(own, 'backup_last_good_drill_timestamp_seconds{kind="chosen"}') == 0.0

        def ended() -> dict[int, pb.Drill]:
            listed = operator.drills.ListDrills(pb.ListDrillsRequest(), timeout=60).drills
            return {one.kind: one for one in listed if one.scheduled and one.HasField("end_time")}

        wait_until(
            lambda: {pb.DRILL_KIND_LIGHT, pb.DRILL_KIND_DEEP} <= set(ended()), "a drill of each kind", seconds=90
        )
        light, deep = ended()[pb.DRILL_KIND_LIGHT], ended()[pb.DRILL_KIND_DEEP]
        assert (light.full_checks, deep.full_checks) == (False, True)
        assert not light.HasField("resolved_target_time")
        assert light.state == pb.STATE_SUCCEEDED, light
        # Whether the deep one is good is up to the moment it drew: other tests broke things in this archive's past.
        assert deep.HasField("resolved_target_time")
        assert "page_checksums" in {check.check for check in deep.checks}
        assert value(own, 'backup_last_good_drill_timestamp_seconds{kind="light"}') > 1e9
        assert value(own, 'backup_last_drill_succeeded{kind="light"}') == 1.0
        assert value(own, 'backup_last_drill_succeeded{kind="deep"}') == float(deep.state == pb.STATE_SUCCEEDED)
        assert value(own, 'backup_drill_rto_seconds{kind="light"}') > 0.0
        assert value(own, 'backup_drill_phase_seconds_count{phase="restore"}') >= 2.0
        assert own.stop() == 0


@pytest.mark.control("B3", "a drill that cannot succeed is refused before anything is touched")
def test_a_drill_is_refused_while_the_disk_is_short_and_the_timetable_says_so(
    archived: Archived, backed_up: Service
) -> None:
    own = Service(
        archived, "short", drill_light_seconds="1", drill_jitter_seconds="0", drill_spare_bytes=str(1 << 50),
        metrics_address=metrics_at(archived, "short"),
    )  # fmt: skip
    series = 'backup_drill_refused_total{kind="light",reason="DISK_SHORT"}'
    with own, Operator(own) as operator:
        wait_until(lambda: value(own, series) >= 1.0, "the refused drill")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "DISK_SHORT"):
            operator.begin_drill()
        assert operator.drills.ListDrills(pb.ListDrillsRequest(), timeout=60).drills == []
        assert own.leftovers == []
        assert own.stop() == 0


@pytest.mark.control("B2", "RPO and RTO are measured continuously between drills")
def test_between_drills_the_rto_of_a_restore_now_is_told_and_each_drill_tells_how_wrong_that_was(
    archived: Archived, backed_up: Service
) -> None:
    own = Service(archived, "foretold", metrics_address=metrics_at(archived, "foretold"))
    now, miss = "backup_rto_foretold_seconds", "backup_rto_prediction_error_ratio"
    with own, Operator(own) as operator:
        # The control: nothing is foretold before a drill has told how long anything takes.
        assert math.isnan(value(own, now))
        assert not operator.status().HasField("predicted_rto_seconds")
        first = operator.drill()
        assert first.state == pb.STATE_SUCCEEDED
        assert not first.HasField("predicted_rto_seconds")
        assert not operator.status().HasField("rto_prediction_error")
        assert value(own, now) > 0.0
        assert math.isnan(value(own, miss))
        # Without another drill it is the RTO of a restore now: each archived segment is more to replay.
        before = operator.status().predicted_rto_seconds
        assert operator.status(advance=True).predicted_rto_seconds > before > 0.0

        before = operator.status().predicted_rto_seconds
        begun = operator.begin_drill()
        assert before <= begun.predicted_rto_seconds <= operator.status().predicted_rto_seconds
        *_, second = operator.watch(begun.name)
        assert second.state == pb.STATE_SUCCEEDED
        assert second.predicted_rto_seconds == begun.predicted_rto_seconds
        error = abs(second.predicted_rto_seconds - second.rto_seconds) / second.rto_seconds
        assert value(own, miss) == pytest.approx(error)
        assert operator.status().rto_prediction_error == pytest.approx(error)
        assert own.stop() == 0
    # What was foretold is kept with the drill that it was foretold of.
    with own, Operator(own) as operator:
        assert operator.get_drill(second.name).predicted_rto_seconds == second.predicted_rto_seconds
        assert operator.status().rto_prediction_error == pytest.approx(error)
        assert value(own, miss) == pytest.approx(error)
        assert own.stop() == 0


def test_a_service_without_a_timetable_drills_only_when_it_is_asked(archived: Archived, backed_up: Service) -> None:
    with Operator(backed_up) as operator:
        before = operator.drills.ListDrills(pb.ListDrillsRequest(), timeout=60).drills
        assert not any(one.scheduled for one in before)
        assert operator.drill().state == pb.STATE_SUCCEEDED
