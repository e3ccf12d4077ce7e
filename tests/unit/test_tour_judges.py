"""How the tour judges the drill that it asked for."""

from pathlib import Path

import pytest

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
