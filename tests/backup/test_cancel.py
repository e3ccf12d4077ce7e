"""A drill that somebody cancels ends in whatever phase it is, removes its copy, and makes room for what waits."""

import json
from contextlib import suppress

import grpc
import pytest
from click.testing import CliRunner, Result

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.cli import main
from holdfast.cli.operator import reason_of
from tests.support.backup import Operator, Service, refused, wait_until
from tests.support.samples import ABSENT

ATTEMPTS = 6


@pytest.fixture(scope="module")
def operator(service: Service) -> "Operator":
    made = Operator(service)
    assert made.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
    made.status(advance=True)
    return made


def runs(drill: pb.Drill, phase: str) -> bool:
    return any(one.phase == phase and one.state == pb.STATE_RUNNING for one in drill.phases)


def command(service: Service, *words: str) -> Result:
    return CliRunner().invoke(main, ["drill", *words, "--socket", str(service.operator_socket)])


@pytest.mark.parametrize("phase", ["restore", "replay", "check"])
def test_a_drill_cancelled_in_a_phase_fails_removes_its_copy_and_lets_the_next_begin(
    service: Service, operator: Operator, phase: str
) -> None:
    for _ in range(ATTEMPTS):
        name = operator.begin_drill().name
        for drill in operator.watch(name):
            if runs(drill, phase):
                break
        with suppress(grpc.RpcError):  # a phase of a small database is soon over, and the drill with it
            operator.drills.CancelDrill(pb.CancelDrillRequest(name=name), timeout=60)
        ended = operator.ended(name)
        if ended.state == pb.STATE_FAILED:
            break
    else:
        pytest.fail(f"the drill was never cancelled in phase {phase}")
    assert (ended.state, reason_of(ended.error)) == (pb.STATE_FAILED, "DRILL_CANCELLED")
    assert "holdfast drill cancel" in ended.error.message
    assert ended.phases[-1].state == pb.STATE_SUCCEEDED
    assert next(one.ok for one in ended.checks if one.check == "removed")
    assert service.leftovers == []
    # The control: what the drill had locked is free again at once, and nothing of it disturbs the next one.
    assert operator.drill().state == pb.STATE_SUCCEEDED


def test_a_drill_that_has_ended_or_never_was_cannot_be_cancelled(operator: Operator) -> None:
    ended = operator.drills.ListDrills(pb.ListDrillsRequest(page_size=1)).drills[0]
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "DRILL_ENDED"):
        operator.drills.CancelDrill(pb.CancelDrillRequest(name=ended.name), timeout=60)
    assert operator.get_drill(ended.name) == ended
    with refused(grpc.StatusCode.NOT_FOUND, "DRILL_NOT_FOUND"):
        operator.drills.CancelDrill(pb.CancelDrillRequest(name=f"drills/{ABSENT}"), timeout=60)


def test_the_command_cancels_and_waits_until_the_copy_is_gone(service: Service, operator: Operator) -> None:
    name = json.loads(command(service, "run", "--no-wait", "--json").stdout)["name"]
    wait_until(lambda: service.leftovers != [], "the copy's directory")
    done = command(service, "cancel", name)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[0] == f"{name} ends, and removes its copy."
    assert "DRILL_CANCELLED" in done.stdout
    assert service.leftovers == []
    again = command(service, "cancel", name)
    assert (again.exit_code, "[DRILL_ENDED]" in again.stderr) == (3, True)
    assert reason_of(operator.get_drill(name).error) == "DRILL_CANCELLED"
