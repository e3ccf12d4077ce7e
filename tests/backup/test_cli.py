"""`holdfast backup|drill|recovery` against the running service: what they print, and how they end."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from services.backup.domain.heartbeat import position
from tests.support.backup import Archived, Service, wait_until

PHASES = ["select", "restore", "replay", "promote", "check", "scrub", "teardown"]


def call(service: Service, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--socket", str(service.operator_socket)])


def answer(service: Service, *words: str, code: int = 0) -> dict[str, Any]:
    done = call(service, *words, "--json")
    assert done.exit_code == code, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    found: dict[str, Any] = json.loads(lines[0])
    return found


@pytest.fixture(scope="module")
def drilled(service: Service) -> dict[str, Any]:
    """A drill between two heartbeats, run by the command."""
    assert answer(service, "backup", "create", "--type", "full")["state"] == "STATE_SUCCEEDED"
    for _ in range(3):
        status = answer(service, "recovery", "status", "--advance")
    number = status["recent_heartbeats"][2]["sequence"]
    found = answer(service, "drill", "run", "--between", number)
    assert found["proof"]["heartbeat"] == number
    return found


def test_a_drill_run_by_the_command_is_listed_and_shown(service: Service, drilled: dict[str, Any]) -> None:
    assert [phase["phase"] for phase in drilled["phases"]] == PHASES
    assert answer(service, "drill", "list")["drills"][0]["name"] == drilled["name"]
    assert answer(service, "drill", "show", drilled["name"])["proof"] == drilled["proof"]
    assert answer(service, "drill", "watch", drilled["name"])["state"] == "STATE_SUCCEEDED"
    listed = answer(service, "backup", "list")["backups"]
    label = next(one["label"] for one in listed if one["label"] == drilled["backup_label"])
    assert answer(service, "backup", "show", label)["label"] == label


@pytest.mark.control("B3", "a drill proves its target between two heartbeats")
def test_a_drill_to_a_place_in_the_wal_restores_exactly_the_heartbeat_before_it(
    service: Service, archived: Archived, drilled: dict[str, Any]
) -> None:
    number = int(drilled["proof"]["heartbeat"])
    asked = f"SELECT lsn::text FROM backup.heartbeats WHERE sequence IN ({number}, {number + 1}) ORDER BY sequence"
    with archived.cluster.admin(archived.cluster.database) as connection:
        (begin,), (end,) = connection.execute(asked.encode()).fetchall()
    lsn = f"0/{(position(str(begin)) + position(str(end))) // 2:X}"

    found = answer(service, "drill", "run", "--lsn", lsn)

    assert (found["state"], found["target"]) == ("STATE_SUCCEEDED", {"lsn": lsn, "backup": ""})
    assert (int(found["proof"]["heartbeat"]), int(found["proof"]["absent_heartbeat"])) == (number, number + 1)
    assert position(found["proof"]["last_replayed_lsn"]) >= position(lsn)
    assert lsn in call(service, "drill", "show", found["name"]).stdout
    for unproven, reason in (("0/10", "TARGET_BEFORE_FIRST_BACKUP"), ("FF/0", "TARGET_NOT_ARCHIVED")):
        refused = call(service, "drill", "run", "--lsn", unproven)
        assert (refused.exit_code, f"[{reason}]" in refused.stderr) == (3, True)
    assert "drill.target.lsn" in call(service, "drill", "run", "--lsn", "nowhere").stderr
    assert call(service, "drill", "run", "--lsn", lsn, "--between", "1").exit_code == 2


def test_without_a_terminal_a_drill_is_told_in_plain_lines(service: Service, drilled: dict[str, Any]) -> None:
    done = call(service, "drill", "run")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(PHASES)]] == PHASES
    assert "\x1b" not in done.stdout
    assert lines[-1] == "drill succeeded"
    assert done.stderr.startswith(f"{call(service, 'drill', 'list').stdout.splitlines()[1].split()[0]}: ")
    assert any(line.startswith("RPO ") for line in lines)
    assert drilled["name"] in call(service, "drill", "list").stdout
    assert "restorable from" in call(service, "recovery", "status").stdout
    assert drilled["backup_label"] in call(service, "backup", "list").stdout


def test_a_refusal_says_its_reason_and_has_its_own_exit_code(service: Service, drilled: dict[str, Any]) -> None:
    refused = call(service, "drill", "run", "--time", "2001-01-01T00:00:00+00:00", "--json")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "[TARGET_BEFORE_FIRST_BACKUP]" in refused.stderr
    assert "Request id: " in refused.stderr
    assert call(service, "drill", "run", "--time", "2001-01-01T00:00:00").exit_code == 2
    assert call(service, "drill", "run", "--between", "99999").exit_code == 2
    assert call(service, "backup", "show", "20010101-000000F").exit_code == 3


def test_a_service_that_is_not_there_has_its_own_exit_code(service: Service) -> None:
    gone = CliRunner().invoke(main, ["recovery", "status", "--socket", str(service.run / "nothing.sock")])
    assert gone.exit_code == 4
    assert "does not answer" in gone.stderr


def test_the_schedule_says_what_comes_next_and_what_is_asked_for_is_done(
    service: Service, drilled: dict[str, Any]
) -> None:
    """The schedule is off here, so that nothing happens by itself; what an operator asks for happens."""
    found = answer(service, "backup", "schedule")
    assert (found["enabled"], found["conditions"]) == (False, [])
    tasks = {one["task"]: one for one in found["tasks"]}
    assert set(tasks) == {"TASK_FULL", "TASK_DIFFERENTIAL", "TASK_EXPIRE", "TASK_VERIFY"}
    assert tasks["TASK_FULL"]["reason"].startswith("the daily full backup of ")
    assert answer(service, "backup", "run", "verify") == {"task": "verify"}

    def verified() -> bool:
        listed = answer(service, "backup", "schedule")["tasks"]
        return any(one["task"] == "TASK_VERIFY" and "last_good_time" in one for one in listed)

    wait_until(verified, "the verification that was asked for")
    shown = call(service, "backup", "schedule")
    assert shown.exit_code == 0, shown.output
    assert "the schedule is off" in shown.stdout
    assert call(service, "backup", "run", "nothing").exit_code == 2


def test_the_history_of_exposure_is_shown(service: Service, drilled: dict[str, Any]) -> None:
    found = answer(service, "recovery", "history", "--hours", "1", "--points", "60")
    assert found["points"]
    assert all(one["exposure_seconds"] < 3600 for one in found["points"] if "exposure_seconds" in one)
    shown = call(service, "recovery", "history")
    assert shown.exit_code == 0, shown.output
    assert " of 15 min, from " in shown.stdout


def test_with_a_repository_that_cannot_be_read_backups_are_unknown(service: Service, archived: Archived) -> None:
    """It said "no backup", though it only could not ask."""
    assert answer(service, "backup", "create", "--type", "full")["state"] == "STATE_SUCCEEDED"
    right = archived.config.read_text()
    archived.config.write_text(right.replace("repo1-cipher-pass=only", "repo1-cipher-pass=not-only"))
    try:
        done = call(service, "recovery", "status")
    finally:
        archived.config.write_text(right)
    assert (done.exit_code, "no backup" in done.stdout) == (1, False)
    assert "backups unknown: the repository could not be read" in done.stdout.splitlines()
    assert any(line.startswith("last backup ") for line in call(service, "recovery", "status").stdout.splitlines())
