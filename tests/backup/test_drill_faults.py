"""What goes wrong around a drill ends in a verdict an operator can act on, never in a false "ok"."""

import threading
from collections.abc import Iterator
from datetime import datetime

import grpc
import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from services.backup.adapters import questions
from services.backup.domain import verdict
from tests.support.backup import Archived, Operator, Service, middle, refused, wait_until

NO_JOB_RUNS = "No job runs in this database: see `holdfast jobs guard`."
ATTEMPTS = 6


@pytest.fixture(scope="module")
def older(service: Service) -> pb.Backup:
    """A full backup with heartbeats after it."""
    with Operator(service) as operator:
        made = operator.back_up(pb.BACKUP_TYPE_FULL)
        assert made.state == pb.STATE_SUCCEEDED
        operator.status(advance=True)
        operator.status(advance=True)
    return made


@pytest.fixture
def operator(service: Service, older: pb.Backup) -> Iterator[Operator]:
    with Operator(service) as found:
        yield found


def test_archiving_left_on_in_a_copy_fails_its_check(archived: Archived) -> None:
    """Production itself stands for such a copy: asked the same, it has to fail."""
    with archived.cluster.admin(archived.cluster.database) as connection:
        row = connection.execute(questions._ARCHIVING.encode()).fetchone()
    assert row is not None
    mode, how, segment, ready, count = row
    left_on = verdict.archiving(str(mode), str(how), str(segment), int(str(ready)), int(str(count)))
    assert left_on.failed
    assert "would write to production's archive" in left_on.detail
    assert verdict.archiving("off", "(disabled)", str(segment), 0, 0).ok
    assert verdict.archiving("off", "(disabled)", str(segment), 1, 0).failed


def test_an_idle_primary_raises_no_false_alarm(operator: Operator) -> None:
    """Nothing is written between the drills: no commit follows the newest heartbeat."""
    first, second = operator.drill(), operator.drill()
    assert first.state == second.state == pb.STATE_SUCCEEDED, second
    assert first.proof.heartbeat == second.proof.heartbeat
    assert first.proof.absent_heartbeat == second.proof.absent_heartbeat == 0
    assert second.rpo_seconds > first.rpo_seconds


@pytest.mark.control("B3", "a drill that cannot succeed is refused before anything is touched")
def test_a_moment_within_a_backup_is_reached_from_the_one_before_it_or_refused(
    operator: Operator, older: pb.Backup
) -> None:
    newer = operator.back_up(pb.BACKUP_TYPE_FULL)
    operator.status(advance=True)
    within = moment(newer.start_time) + (moment(newer.end_time) - moment(newer.start_time)) / 2
    assert moment(older.end_time) < within

    with refused(grpc.StatusCode.FAILED_PRECONDITION, "TARGET_BEFORE_FIRST_BACKUP"):
        operator.begin_drill(within, backup=newer.name)
    ended = operator.drill(within)

    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert ended.backup_label == older.label


def moment(value: object) -> datetime:
    found: datetime = value.ToDatetime()  # type: ignore[attr-defined]  # a Timestamp
    return found


@pytest.mark.control("B3", "a drill killed in any phase leaves nothing behind")
def test_a_service_killed_while_it_selects_leaves_no_drill_and_holds_nothing(
    service: Service, older: pb.Backup
) -> None:
    lock = service.state / "engine.lock"
    for _ in range(ATTEMPTS):
        before = {path.name for path in (service.state / "drills").glob("*.json")}
        with Operator(service) as operator:
            asked = threading.Thread(target=unheard, args=(operator,))
            asked.start()
            wait_until(lambda: lock.read_text().startswith("drill"), "the selection")
            service.kill()
            asked.join()
        lock.write_text("")
        killed_in_time = {path.name for path in (service.state / "drills").glob("*.json")} == before
        service.start()
        assert service.leftovers == []
        if killed_in_time:
            break
    else:
        pytest.fail("the service was never killed before the drill was planned")

    with Operator(service) as operator:
        assert operator.drill().state == pb.STATE_SUCCEEDED


def unheard(operator: Operator) -> None:
    """Ask for a drill; nobody will be there to answer."""
    try:
        operator.begin_drill()
    except grpc.RpcError:
        return


@pytest.mark.sweep
@pytest.mark.control("B3", "a drill proves its target between two heartbeats")
def test_moments_before_and_after_a_failover_are_both_reached(archived: Archived, operator: Operator) -> None:
    """The server is promoted to a new timeline, as a standby would be; its history goes to the same archive."""
    operator.status(advance=True)
    before = [*operator.status().recent_heartbeats][:2]
    fail_over(archived)
    wait_until(lambda: [*operator.status().warnings] == [NO_JOB_RUNS], "the service's new connections")
    for _ in range(3):
        operator.status(advance=True)
    # The first of them has seen that nothing is missing on the new timeline.
    assert [*operator.status().warnings] == []
    after = [*operator.status().recent_heartbeats][:2]
    assert operator.status().last_archived_wal[:8] > "00000001"

    reached = operator.drill(middle(before[1], before[0]))
    assert reached.state == pb.STATE_SUCCEEDED, reached
    assert reached.proof.heartbeat == before[1].sequence
    reached = operator.drill(middle(after[1], after[0]))
    assert reached.state == pb.STATE_SUCCEEDED, reached
    assert reached.proof.heartbeat == after[1].sequence
    newest = operator.drill()
    assert newest.state == pb.STATE_SUCCEEDED, newest
    assert newest.proof.heartbeat == after[0].sequence
    assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
    assert operator.drill().state == pb.STATE_SUCCEEDED


def fail_over(archived: Archived) -> None:
    """Stop the server, start it as a standby, and promote that."""
    archived.stop()
    signal = archived.cluster.data_dir / "standby.signal"
    archived.cluster._write(signal.name, "")
    archived.start()
    with archived.cluster.admin() as connection:
        row = connection.execute("SELECT pg_promote(true, 60)").fetchone()
        assert row == (True,)
        wait_until(lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,), "the promotion")
