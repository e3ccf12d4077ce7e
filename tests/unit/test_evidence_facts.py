"""What a backup or drill tells as evidence: all that proves it, and to customers nothing that is internal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from libs.observability.metric import Metrics
from services.backup.adapters.circumstances import config_digest
from services.backup.domain.backup import Backup
from services.backup.domain.drill import Check, Drill, Kind, Proof, not_made
from services.backup.domain.errors import EngineFailed, TargetNotArchived
from services.backup.domain.evidence import plain
from services.backup.domain.progress import State
from services.backup.domain.repository import BackupType
from services.backup.domain.testimony import backup_entry, drill_entry, refusal_entry
from services.backup.ops import evidence_figures
from services.backup.ops.evidence import Evidence
from tests.support.evidence import journal

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SECRET = "db-7.internal"
AROUND = {"tools": {"engine": "pgBackRest 2.45"}}


def drill() -> Drill:
    made = Drill("d1", AT, label=f"20261122-000000F-{SECRET}", isolation=SECRET, log_digest="a" * 64, system_id="7")
    checks = (Check("heartbeats", True, 9, SECRET, 0.5), not_made("amcheck", SECRET), Check("roles", False, 1, SECRET))
    proof = Proof(41, AT - timedelta(seconds=2), 42, AT - timedelta(seconds=1), "0/5000148", 3)
    seen = replace(made.entered("check", now=AT), checks=checks, proof=proof, rpo_seconds=2.0004, rto_seconds=31.5)
    return seen.failed(EngineFailed(f"{SECRET} did not answer.", host=SECRET), now=AT).ended(now=AT)


def test_a_drills_facts_name_figures_phases_and_verdicts_and_nothing_internal() -> None:
    entry = drill_entry(drill(), AROUND)
    facts = plain(entry.facts)
    assert SECRET not in str(facts)
    assert "pgBackRest" not in str(facts)
    assert (facts["outcome"], facts["reason"]) == ("failed", "BACKUP_ENGINE_FAILED")
    assert (facts["rpo_ms"], facts["rto_ms"], facts["reached"]) == (2000, 31500, "2026-11-22T02:59:58.000000Z")
    verdicts = {check["check"]: (check["verdict"], check["count"]) for check in facts["checks"]}
    assert verdicts == {"heartbeats": ("ok", 9), "amcheck": ("not made", 0), "roles": ("failed", 1)}


def test_the_rpo_of_objects_is_null_where_it_is_not_known() -> None:
    facts = plain(drill_entry(drill(), AROUND).facts)
    assert (facts["objects_rpo_ms"], facts["objects_sampled"]) == (None, 0)
    asked = replace(drill(), checks=(Check("objects_of_rows", True, 9, SECRET),))
    facts = plain(drill_entry(asked, AROUND).facts)
    assert (facts["objects_rpo_ms"], facts["objects_sampled"]) == (0, 9)
    lost = replace(asked, checks=(Check("objects_of_rows", False, 9, SECRET, since=AT - timedelta(seconds=7)),))
    assert plain(drill_entry(lost, AROUND).facts)["objects_rpo_ms"] == 7000


def test_what_is_internal_is_kept_beside_them() -> None:
    internal = plain(drill_entry(drill(), AROUND).internal)
    assert (internal["system_id"], internal["timeline"], internal["lsn"]) == ("7", 3, "0/5000148")
    assert internal["error"] == {"message": f"{SECRET} did not answer.", "facts": {"host": SECRET}}
    assert internal["details"]["heartbeats"] == SECRET
    assert internal["tools"] == {"engine": "pgBackRest 2.45"}


def test_a_backups_label_and_error_are_internal() -> None:
    made = Backup("b1", BackupType.FULL, State.RUNNING, AT, label="20261122-000000F")
    entry = backup_entry(made.failed(EngineFailed(SECRET), now=AT + timedelta(seconds=1.5)), AROUND)
    facts = plain(entry.facts)
    assert (entry.subject, facts["outcome"]) == ("backups/b1", "failed")
    assert (facts["type"], facts["elapsed_ms"]) == ("full", 1500)
    assert SECRET not in str(facts)
    assert "20261122-000000F" not in str(facts)
    assert plain(entry.internal)["label"] == "20261122-000000F"


def test_refusals_of_one_day_and_reason_are_one_record() -> None:
    fault = TargetNotArchived("Nothing is archived.")
    first = refusal_entry(Kind.LIGHT, fault, at=AT)
    assert first.facts["outcome"] == "failed"
    assert first.subject == refusal_entry(Kind.LIGHT, fault, at=AT + timedelta(hours=9)).subject
    assert first.subject != refusal_entry(Kind.LIGHT, fault, at=AT + timedelta(days=1)).subject
    assert first.subject != refusal_entry(Kind.DEEP, fault, at=AT).subject


def test_the_digest_of_a_configuration_is_that_of_its_lines_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "engine.conf"
    path.write_text("[global]\nrepo1-path=/a\nrepo1-cipher-pass=one\nrepo1-s3-key=two\nrepo1-s3-key-secret=three\n")
    before = config_digest(path)
    path.write_text(path.read_text().replace("one", "1").replace("two", "2").replace("three", "3"))
    assert config_digest(path) == before
    path.write_text(path.read_text().replace("/a", "/b"))
    assert config_digest(path) != before
    assert config_digest(tmp_path / "none") == "unknown"


def test_the_series_say_how_much_there_is_and_what_is_missing_where(tmp_path: Path) -> None:
    class Away:
        name, warning = "store", ""

    metrics = Metrics()
    evidence_figures.show(metrics, Evidence(journal(tmp_path, 3), [Away()], period_seconds=1, now=lambda: AT))  # type: ignore[list-item]  # is never asked
    assert metrics.registry.get_sample_value("backup_evidence_records") == 3
    assert metrics.registry.get_sample_value("backup_evidence_unwritten_records") == 0
    assert metrics.registry.get_sample_value("backup_evidence_unmirrored_records", {"mirror": "store"}) == 3
