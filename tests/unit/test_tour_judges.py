"""How the tour judges the drill that it asked for."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from deploy.stack import tour
from deploy.stack.visitors import Failed
from holdfast.backup.v1 import backup_service_pb2 as backup

CHECKED = backup.DrillCheck(check="heartbeats", ok=True, count=2, verdict=backup.CHECK_VERDICT_OK)
WRONG = backup.DrillCheck(check="sequences", detail="behind", verdict=backup.CHECK_VERDICT_FAILED)
NOT_MADE = backup.DrillCheck(check="deletes_lag", detail="no delete waits", verdict=backup.CHECK_VERDICT_NOT_MADE)


def judged(*checks: backup.DrillCheck) -> str:
    proof = backup.DrillProof(heartbeat=7, absent_heartbeat=8)
    done = backup.Drill(state=backup.STATE_SUCCEEDED, checks=checks, proof=proof, rpo_seconds=1, rto_seconds=2)
    where = tour.Where("https://127.0.0.1:9", "", Path("/nowhere"), "", lambda _: None)
    return tour.Tour(where, tour.Report())._judge(done, 7, 8)


def test_a_check_that_a_fresh_stack_gives_no_cause_to_make_does_not_fail_the_tour() -> None:
    assert judged(CHECKED, NOT_MADE).endswith("heartbeats 2")
    with pytest.raises(Failed, match="behind"):
        judged(CHECKED, NOT_MADE, WRONG)
    with pytest.raises(Failed, match="checks failed"):
        judged(NOT_MADE)


class Refusal(grpc.RpcError):
    """Of a call that was refused for *reason*."""

    def __init__(self, reason: str) -> None:
        told = status_pb2.Status(code=9)
        told.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason))
        self._trailers = (("grpc-status-details-bin", told.SerializeToString()),)

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.FAILED_PRECONDITION

    def details(self) -> str:
        return "refused"

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> Any:
        return self._trailers


def test_the_tour_waits_for_the_timetables_own_work_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup or an expiry of the timetable made `make tour` fail."""
    monkeypatch.setattr(tour, "BUSY_PAUSE_SECONDS", 0)
    answers: list[Refusal | str] = [Refusal("BACKUP_BUSY"), Refusal("BACKUP_BUSY"), "done", Refusal("DISK_SHORT")]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Refusal):
            raise answer
        return answer

    assert tour.once_free(ask) == "done"
    with pytest.raises(Refusal):
        tour.once_free(ask)
    assert answers == []
    monkeypatch.setattr(tour, "BUSY_SECONDS", -1)
    answers.append(Refusal("BACKUP_BUSY"))
    with pytest.raises(Refusal):
        tour.once_free(ask)
