"""A foreign program gets what it needs of our environment, and no secret of it."""

import pytest

from services.backup.adapters import command


async def test_a_foreign_program_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_SECRETS_DIR", "/secrets")
    monkeypatch.setenv("PGBACKREST_REPO1_CIPHER_PASS", "known")
    done = await command.run(["/usr/bin/env"], timeout_seconds=20)
    told = dict(line.split("=", 1) for line in done.out.splitlines())
    assert (done.code, told) == (0, dict(command.PATH))
