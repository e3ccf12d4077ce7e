"""Every backup and drill leaves evidence, whatever becomes of it; and what the commands make of it."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.cli import main
from holdfast.evidence import Record, Summary, parse_keys, verify
from tests.support.backup import Archived, Operator, Service, wait_until

DIGEST = re.compile("[0-9a-f]{64}")


def call(service: Service, *words: str) -> Result:
    return CliRunner().invoke(main, ["evidence", *words, "--socket", str(service.operator_socket)])


def exported(service: Service, path: Path, *words: str) -> Summary:
    """All evidence of the service, exported to *path* by the command and verified with the keys it prints."""
    keys = call(service, "key")
    done = call(service, "export", "--output", str(path), *words)
    assert (keys.exit_code, done.exit_code) == (0, 0), done.output
    with path.open("rb") as lines:
        return verify(lines, parse_keys(keys.stdout.encode()))


def of(found: Summary, name: str) -> Record:
    """The one record about the backup or drill of this *name*."""
    (record,) = [record for record in found.records if record.subject == name]
    return record


def kill_engine(archived: Archived, verb: str) -> None:
    """End the engine's own process at *verb*, as soon as there is one."""

    def ended() -> bool:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
                if verb.encode() in words[1:3] and f"--config={archived.config}".encode() in words:
                    os.kill(int(entry.parent.name), signal.SIGKILL)
                    return True
            except (OSError, ProcessLookupError):
                continue
        return False

    wait_until(ended, f"pgbackrest {verb}")


@pytest.fixture(scope="module")
def names(service: Service, archived: Archived) -> dict[str, str]:
    """A good backup and drill, and one of each that failed and that was found dead, each by what became of it."""
    with Operator(service) as operator:
        good = operator.back_up(pb.BACKUP_TYPE_FULL)
        operator.status(advance=True)
        proven = operator.drill()
        assert (good.state, proven.state) == (pb.STATE_SUCCEEDED, pb.STATE_SUCCEEDED)
        asked = pb.CreateBackupRequest(backup=pb.Backup(type=pb.BACKUP_TYPE_FULL))
        broken = operator.backups.CreateBackup(asked, timeout=60).backup
        kill_engine(archived, "backup")
        *_, ended = operator.backups.WatchBackup(pb.WatchBackupRequest(name=broken.name), timeout=60)
        assert ended.backup.state == pb.STATE_FAILED
        failed = operator.begin_drill()
        kill_engine(archived, "restore")
        *_, told = operator.watch(failed.name)
        assert told.state == pb.STATE_FAILED
        dead = operator.begin_drill()
    service.kill()
    service.start()
    return {
        "backup": good.name, "drill": proven.name, "failed backup": broken.name, "failed drill": failed.name,
        "dead drill": dead.name, "label": good.label,
    }  # fmt: skip


@pytest.mark.control("B4", "every backup and drill leaves a record, also one that failed or died")
def test_every_backup_and_drill_leaves_one_record_whatever_became_of_it(
    service: Service, names: dict[str, str], tmp_path: Path
) -> None:
    found = exported(service, tmp_path / "all.jsonl")
    assert {name: of(found, names[name]).facts["outcome"] for name in names if name != "label"} == {
        "backup": "succeeded",
        "drill": "succeeded",
        "failed backup": "failed",
        "failed drill": "failed",
        "dead drill": "failed",
    }
    assert of(found, names["failed drill"]).facts["reason"] in ("BACKUP_ENGINE_FAILED", "UNAVAILABLE")
    assert of(found, names["dead drill"]).facts["reason"] == "INTERRUPTED"
    assert found.last_good_drill is not None
    assert found.last_good_drill.subject == names["drill"]
    assert [one.subject for one in found.failures_since] == [
        names["failed backup"], names["failed drill"], names["dead drill"],
    ]  # fmt: skip
    with Operator(service) as operator:
        warnings = operator.status().warnings
        assert [one for one in warnings if "vidence" in one and not one.startswith("The newest light drill")] == []


def test_a_drills_record_holds_all_that_proves_it(service: Service, names: dict[str, str], tmp_path: Path) -> None:
    record = of(exported(service, tmp_path / "all.jsonl"), names["drill"])
    facts, internal = record.facts, record.internal
    assert internal is not None
    with Operator(service) as operator:
        drill = operator.get_drill(names["drill"])
    assert (facts["rpo_ms"], facts["rto_ms"]) == (round(drill.rpo_seconds * 1000), round(drill.rto_seconds * 1000))
    assert [phase["phase"] for phase in facts["phases"]] == [phase.phase for phase in drill.phases]
    assert [(one["check"], one["count"]) for one in facts["checks"]] == [(one.check, one.count) for one in drill.checks]
    assert all(one["verdict"] in ("ok", "not made") and one["elapsed_ms"] >= 0 for one in facts["checks"])
    assert facts["reached"].startswith(drill.proof.heartbeat_time.ToDatetime().isoformat()[:19])
    assert (internal["label"], internal["heartbeat"]) == (names["label"], drill.proof.heartbeat)
    assert (internal["timeline"], internal["lsn"]) == (drill.proof.timeline, drill.proof.last_replayed_lsn)
    assert int(internal["system_id"]) > 2**32
    assert DIGEST.fullmatch(internal["log_digest"])
    assert all(DIGEST.fullmatch(digest) for digest in internal["config_digests"].values())
    assert internal["tools"]["engine"].startswith("pgBackRest 2.")
    assert "PostgreSQL" in internal["tools"]["postgres"]
    assert set(internal["details"]) == {one["check"] for one in facts["checks"]}


@pytest.mark.control("B4", "customers get an export without internals that they can check themselves")
def test_the_customers_export_is_verified_too_and_names_nothing_of_the_installation(
    service: Service, archived: Archived, names: dict[str, str], tmp_path: Path
) -> None:
    found = exported(service, tmp_path / "customer.json", "--customer")
    assert (found.internal, found.count) == (False, exported(service, tmp_path / "all.jsonl").count)
    done = call(service, "export", "--customer", "--output", str(tmp_path / "page.html"), "--json")
    assert (done.exit_code, json.loads(done.stdout)["count"]) == (0, found.count), done.output
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    whole = (tmp_path / "all.jsonl").read_text()
    for internal in (names["label"], str(archived.base), "pgBackRest", "PostgreSQL 15"):
        assert internal not in (tmp_path / "customer.json").read_text()
        assert internal not in page
    assert names["label"] in whole


def test_an_export_replaces_nothing_unasked_and_is_for_its_owner_alone(
    service: Service, names: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "all.jsonl"
    exported(service, path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    refused = call(service, "export", "--output", str(path))
    assert (refused.exit_code, path.read_bytes()) == (2, before)
    assert "--force" in refused.stderr
    assert exported(service, path, "--force").count == before.count(b"\n") - 1
    assert call(service, "export", "--output", str(tmp_path / "page.html")).exit_code == 2
    assert call(service, "export", "--output", str(tmp_path / "no" / "all.jsonl")).exit_code == 1
    assert [one.name for one in tmp_path.iterdir()] == ["all.jsonl"]


def test_the_status_names_both_homes_and_that_none_is_off_site(service: Service, names: dict[str, str]) -> None:
    wait_until(lambda: "database has 5" in call(service, "status").stdout, "the rows in the database")
    done = call(service, "status")
    assert done.exit_code == 1
    assert "warning: No off-site store of evidence is set" in done.stdout
    assert json.loads(call(service, "status", "--json").stdout)["count"] == "5"


def test_without_a_database_all_of_it_is_exported_and_nothing_is_recorded_twice(
    archived: Archived, service: Service, names: dict[str, str], tmp_path: Path
) -> None:
    alone = Service(archived, "alone", database_port="1")
    for part in ("backups", "drills"):
        shutil.copytree(service.state / part, alone.state / part, dirs_exist_ok=True, copy_function=_copied)
        shutil.chown(alone.state / part, *_owner(service.state))
    alone.start()  # the state of before there was evidence
    try:
        assert {one.subject for one in exported(alone, tmp_path / "first.jsonl").records} >= set(names.values()) - {
            names["label"]
        }
        count = exported(alone, tmp_path / "again.jsonl").count
        alone.kill()
        alone.start()
        assert exported(alone, tmp_path / "third.jsonl").count == count == 5
    finally:
        assert alone.stop() == 0, alone.log.read_text()[-4000:]


def test_the_chain_of_a_lost_state_directory_is_shown_and_exported_by_its_id(
    service: Service, names: dict[str, str], tmp_path: Path
) -> None:
    wait_until(lambda: "database has 5" in call(service, "status").stdout, "the rows in the database")
    before = json.loads(call(service, "status", "--json").stdout)
    # Other tests on this database have left chains of their own.
    assert before["chain"] not in {one["chain"] for one in before["older_chains"]}
    kept, lost = service.state / "evidence", service.state / "evidence.lost"
    service.kill()
    kept.rename(lost)
    service.start()
    try:
        assert f"older chain {before['chain']}: 5 records in the database" in call(service, "status").stdout
        found = exported(service, tmp_path / "old.jsonl", "--chain", before["chain"])
        assert (found.count, found.head) == (5, before["head"])
        assert exported(service, tmp_path / "new.jsonl").head != before["head"]
        refused = call(service, "export", "--chain", "0" * 16, "--output", str(tmp_path / "none.jsonl"))
        assert (refused.exit_code, "[EVIDENCE_CHAIN_NOT_FOUND]" in refused.stderr) == (3, True)
        assert not (tmp_path / "none.jsonl").exists()
        (tmp_path / "key.pem").write_text(call(service, "key").stdout)
        done = CliRunner().invoke(
            main, ["evidence", "verify", str(tmp_path / "old.jsonl"), "--key", str(tmp_path / "key.pem")]
        )
        assert done.exit_code == 0, done.output
    finally:
        service.kill()
        shutil.rmtree(kept)
        lost.rename(kept)
        service.start()


def _owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def _copied(source: str, target: str) -> str:
    shutil.copy2(source, target)
    os.chown(target, *_owner(Path(source)))
    return target
