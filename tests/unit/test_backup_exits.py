"""A store that stalls is away, and an error nobody knows is no damaged file: both were called "cannot be parsed"."""

import json
from pathlib import Path

import pytest

from services.backup.adapters.command import Finished
from services.backup.adapters.pgbackrest import PgBackRest
from services.backup.adapters.pgbackrest_exits import judge
from services.backup.adapters.pgbackrest_info import parse_info
from services.backup.domain.errors import ConfigurationGone, EngineAway, EngineFailed
from services.backup.domain.repository import Repository

LOG = Path("/log/holdfast-info.log")
# As 2.45 says them; the first was seen with a SeaweedFS that was stopped.
STALLS = [
    (42, "FileReadError", "timeout after 5000ms waiting for read from 'localhost:8333'"),
    (42, "FileReadError", "unexpected eof while reading line"),
    (42, "FileReadError", "unexpected EOF reading HTTP content"),
    (64, "FileWriteError", "timeout after 5000ms waiting for write to 'localhost:8333'"),
    (39, "ProtocolError", "unexpected TLS eof"),
]
DISKS = [
    (42, "FileReadError", "unable to read '/repo/backup.info': [5] Input/output error"),
    (64, "FileWriteError", "unable to write '/repo/backup.info': [28] No space left on device"),
    (39, "ProtocolError", "HTTP request failed with 403 (Forbidden): *** Response Headers ***: keep-alive: timeout=5"),
]


def informed(words: str) -> Repository:
    """What is read of an `info` that could not read its repository."""
    repo = {"key": 1, "status": {"code": 99, "message": words}}
    return parse_info(json.dumps([{"name": "x", "status": {"code": 99, "message": "other"}, "repo": [repo]}]), "x")


@pytest.mark.parametrize(("code", "name", "words"), STALLS)
def test_a_store_that_stalls_or_hangs_up_is_away(code: int, name: str, words: str) -> None:
    with pytest.raises(EngineAway, match="does not answer in time") as told:
        informed(f"[{name}] {words}")
    assert words in told.value.message
    with pytest.raises(EngineAway, match=rf"does not answer in time \(code {code}\)"):
        judge("backup", Finished(code, "", f"ERROR: [{code:03d}]: {words}"), LOG)
    with pytest.raises(EngineAway, match=f"code {code}"):
        judge("restore", Finished(103, "", f"ERROR: [103]: no valid repository: repo1: [{name}] {words}"), LOG)


@pytest.mark.parametrize(("code", "name", "words"), DISKS)
def test_a_disk_that_fails_and_a_store_that_refuses_call_a_person(code: int, name: str, words: str) -> None:
    with pytest.raises(EngineFailed, match=f"code {code}"):
        informed(f"[{name}] {words}")
    with pytest.raises(EngineFailed, match=f"code {code}"):
        judge("backup", Finished(code, "", f"ERROR: [{code:03d}]: {words}"), LOG)


@pytest.mark.parametrize("words", ["[KernelError] unable to fork", "words without a class"])
def test_an_error_that_nobody_knows_failed_in_the_engine_s_own_words(words: str) -> None:
    with pytest.raises(EngineFailed) as told:
        informed(words)
    assert ": it failed (code 125). Read the log." in told.value.message
    assert told.value.message.endswith(words)
    with pytest.raises(EngineFailed, match="cannot be parsed"):
        informed("[JsonFormatError] expected '{' at 'x'")


async def test_a_configuration_file_that_is_gone_is_not_called_a_file_of_the_repository(tmp_path: Path) -> None:
    """An opened escrow that was closed while its drill ran: the drill said to run verify and to restore backup.info."""
    config, program = tmp_path / "pgbackrest.conf", tmp_path / "engine"
    engine = PgBackRest(str(program), "holdfast", config, config, config)
    for missing, kind in ((config, ConfigurationGone), (tmp_path / "backup.info", EngineFailed)):
        said = f"ERROR: [055]: unable to open missing file '{missing}' for read"
        program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 55\n', encoding="utf-8")
        program.chmod(0o700)
        with pytest.raises(EngineFailed) as told:
            await engine.inspect()
        assert type(told.value) is kind
        assert said in told.value.message
        assert ("has to stay open until the drill ends" in told.value.message) == (missing == config)
        assert ("file of the repository" in told.value.message) == (missing != config)
