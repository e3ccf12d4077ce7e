"""A smoke that cannot be asked says why, and is neither ok nor a fault of the copy."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from libs.secret import Secret
from services.backup.adapters import smoke
from services.backup.adapters.canary import NoCanary
from services.backup.adapters.copy import Copy, Servers
from services.backup.adapters.isolation import Isolation
from services.backup.adapters.objects import Store
from services.backup.adapters.place import Place
from services.backup.adapters.standin import StandIn, Troupe
from services.backup.domain.drill import Check, phases
from services.backup.domain.errors import EngineFailed

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
STORE = Store("", "", "", "", Secret(b""), Secret(b""))
CANARY = {
    "email": "canary@example.com", "password": "p" * 20, "user": "organizations/o/users/u", "file": "f",
    "sha256": "00", "event": "file.created", "made_at": NOW.isoformat(),
}  # fmt: skip


def described(tmp_path: Path, **fields: str) -> Path:
    path = tmp_path / "canary"
    path.touch(mode=0o600)
    path.write_text(json.dumps(CANARY | fields))
    return path


def asked(tmp_path: Path, told: smoke.Smoke, newest: datetime | None) -> list[Check]:
    """The checks of a copy that nobody started: whoever asks it anything fails."""
    servers = Servers(tmp_path, "postgres", "holdfast", Isolation.unknown(), (), 1.0)
    copy = Copy(servers, Place(tmp_path / "work", tmp_path / "run"))
    return asyncio.run(smoke.smoke(copy, told, STORE, "holdfast", newest))


@pytest.mark.parametrize(
    ("newest", "fields", "mode", "why"),
    [
        (NOW - timedelta(seconds=1), {}, 0o600, "before the canary was made (2026-11-22 05:00:00Z)"),
        (None, {}, 0o600, "before the canary was made"),
        (NOW, {"made_at": "yesterday"}, 0o600, "does not describe one"),
        (NOW, {}, 0o644, "open to group or world"),
    ],
)
def test_a_smoke_without_a_canary_that_the_copy_must_hold_is_not_made(
    tmp_path: Path, newest: datetime | None, fields: dict[str, Any], mode: int, why: str
) -> None:
    path = described(tmp_path, **fields)
    path.chmod(mode)
    found = asked(tmp_path, smoke.Smoke(tmp_path, path), newest)
    assert [(one.check, one.made, one.ok, one.failed) for one in found] == [
        (name, False, False, False) for name in smoke.CHECKS
    ]
    assert all(why in one.detail for one in found), found


def test_a_canary_of_the_copys_time_is_taken_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    taken = smoke.Smoke(tmp_path, described(tmp_path)).canary_of(NOW)
    assert (taken.email, taken.made_at) == ("canary@example.com", NOW)
    assert "p" * 20 not in repr(taken)
    with pytest.raises(NoCanary, match="make up makes one"):
        smoke.Smoke(tmp_path, tmp_path / "none").canary_of(NOW)
    with pytest.raises(NoCanary, match="not told"):
        smoke.NOWHERE.canary_of(NOW)


def test_only_full_drills_smoke() -> None:
    assert "smoke" in [one.phase for one in phases(full=True)]
    assert "smoke" not in [one.phase for one in phases(full=False)]


def test_a_service_that_does_not_start_fails_with_the_last_words_of_its_log_and_is_gone(tmp_path: Path) -> None:
    (tmp_path / "secrets" / "auth").mkdir(parents=True)
    place = Place(tmp_path / "work", tmp_path / "run")
    place.make()
    auth = StandIn("auth", Troupe(tmp_path / "secrets", STORE, "holdfast", 30.0), place)

    async def play() -> None:
        await auth.start()
        try:
            await auth.serving()
        finally:
            await auth.stop()

    with pytest.raises(EngineFailed, match=r"auth ended: .*(root_keys is missing|No module named)"):
        asyncio.run(play())
    assert place.processes() == []
    assert not (place.sockets / "auth.secrets").exists()
