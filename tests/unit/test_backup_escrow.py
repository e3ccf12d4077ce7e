"""What the backup service says of the escrow it never sees the inside of."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from deploy.stack import doctor
from holdfast.escrow import Installation, gather, record
from libs.observability.metric import Metrics
from services.backup.adapters.escrow import Escrow
from services.backup.domain.drill import Check, Drill, not_made
from services.backup.domain.escrow import CHECK, proven_at
from services.backup.domain.progress import State
from services.backup.ops.escrow_figures import EscrowFigures
from tests.support.escrow import installed

NOW = datetime(2026, 11, 22, 4, tzinfo=UTC)


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    """An installation whose escrow is fresh."""
    installation = Installation(installed(tmp_path / "home" / "state"))
    record.note_exported(installation, gather(installation), record.Exported(NOW, "ab" * 32, ("f" * 64,), {}))
    record.note_installed(installation, now=NOW)
    return installation


def figures(escrow: Escrow, *drills: Drill) -> dict[str, float]:
    """What a scrape shows of it."""
    metrics = Metrics()
    EscrowFigures(metrics, escrow, lambda: proven_at(drills))
    lines = [line.split() for line in generate_latest(metrics.registry).decode().splitlines()]
    prefix = "holdfast_backup_escrow_"
    return {words[0].removeprefix(prefix): float(words[1]) for words in lines if words[0].startswith(prefix)}


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_a_fresh_escrow_is_no_warning_and_not_stale(here: Installation) -> None:
    escrow = Escrow(here.records)
    assert escrow.warnings() == []
    told = figures(escrow)
    assert (told["stale"], told["exported_timestamp_seconds"]) == (0.0, NOW.timestamp())
    assert math.isnan(told["verified_timestamp_seconds"])
    assert record.note_verified(here, "ab" * 32, now=NOW)
    assert figures(escrow)["verified_timestamp_seconds"] == NOW.timestamp()


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
@pytest.mark.parametrize("name", ["stack/repository_cipher", "backup/evidence_key", "auth/root_keys"])
def test_after_a_rotation_the_next_up_makes_the_service_and_the_scrape_say_stale(here: Installation, name: str) -> None:
    escrow = Escrow(here.records)
    (here.secrets / name).write_text("another-value-that-was-drawn-anew")
    assert escrow.warnings() == []  # nobody who may read secrets has looked yet
    record.note_installed(here, now=NOW)
    assert f"does not hold what is installed now (secrets/{name})" in escrow.warnings()[0]
    assert figures(escrow)["stale"] == 1.0


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"exported_at": 7}', "\x00"])
def test_without_an_escrow_or_with_a_record_that_cannot_be_read_it_counts_as_none(
    here: Installation, text: str | None
) -> None:
    path = here.records / record.EXPORTED
    path.unlink()
    if text is not None:
        path.write_text(text)
    escrow = Escrow(here.records)
    assert "There is no escrow of the root keys and the backups' pass" in escrow.warnings()[0]
    assert figures(escrow)["stale"] == 1.0
    assert math.isnan(figures(escrow)["exported_timestamp_seconds"])


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_while_nobody_knows_what_is_installed_the_escrow_does_not_count_as_fresh(here: Installation) -> None:
    (here.records / record.INSTALLED).unlink()
    assert figures(Escrow(here.records))["stale"] == 1.0
    record.note_installed(here, now=NOW)
    assert figures(Escrow(here.records))["stale"] == 0.0


def test_a_service_that_does_not_watch_the_escrow_claims_nothing() -> None:
    assert Escrow(None).warnings() == []
    assert math.isnan(figures(Escrow(None))["stale"])


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_the_doctor_compares_with_the_secrets_themselves(here: Installation) -> None:
    class Parts:
        class where:
            state = here.state

    (found,) = doctor.escrow(Parts())  # type: ignore[arg-type]  # the check reads nothing else of the parts
    assert (found.check, found.verdict) == ("escrow", "ok")
    (here.secrets / "auth" / "root_keys").write_text("another-value-that-was-drawn-anew")
    (found,) = doctor.escrow(Parts())  # type: ignore[arg-type]  # the check reads nothing else of the parts
    assert found.verdict == "warning"
    assert "STALE: secrets/auth/root_keys changed since" in found.detail
    (here.secrets / "auth" / "root_keys").unlink()
    (found,) = doctor.escrow(Parts())  # type: ignore[arg-type]  # the check reads nothing else of the parts
    assert found.verdict == "fault"


def test_what_is_remembered_is_readable_by_the_service_and_the_digest_key_is_not(here: Installation) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in here.records.iterdir()}
    assert modes == {"exported.json": 0o644, "installed.json": 0o644}
    assert json.loads((here.records / "installed.json").read_text()).keys() == {"version", "noted_at", "digests"}


@pytest.mark.control("B7", "a deep drill restores with the escrow alone, and one without it never says ok")
def test_only_a_good_drill_whose_escrow_check_is_ok_counts_as_one_with_an_escrow() -> None:
    def drill(hour: int, state: State, *checks: Check) -> Drill:
        return Drill("d", NOW, ended_at=NOW.replace(hour=hour), state=state, checks=checks)

    good = Check(CHECK, True, 1, "")
    others = [
        drill(9, State.SUCCEEDED, not_made(CHECK, "no escrow opened")),
        drill(10, State.FAILED, good),
        drill(11, State.SUCCEEDED, Check("heartbeats", True, 1, "")),
    ]
    assert math.isnan(figures(Escrow(None), *others)["drilled_timestamp_seconds"])
    told = figures(Escrow(None), drill(7, State.SUCCEEDED, good), drill(8, State.SUCCEEDED, good), *others)
    assert told["drilled_timestamp_seconds"] == NOW.replace(hour=8).timestamp()


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_the_same_secret_in_two_installations_has_two_digests(here: Installation, tmp_path: Path) -> None:
    other = Installation(installed(tmp_path / "other" / "state"))
    shared = {"secrets/stack/repository_cipher": b"a-pass-that-somebody-thought-of-himself"}
    assert record.digests(here, shared) == record.digests(here, shared)
    assert record.digests(here, shared) != record.digests(other, shared)
