"""pgBackRest's answers as we read them, and the configuration it is given."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.pgbackrest import conf
from services.backup.adapters import pgbackrest
from services.backup.adapters.pgbackrest import PgBackRest, parse_info
from services.backup.domain.errors import EngineAway, EngineFailed
from services.backup.domain.repository import Server

BACKUP: dict[str, Any] = {
    "archive": {"start": "000000010000000000000002", "stop": "000000010000000000000003"},
    "database": {"id": 2, "repo-key": 1},
    "info": {"delta": 30, "repository": {"delta": 3, "size": 3}, "size": 31},
    "label": "20261122-000102F",
    "lsn": {"start": "0/2000028", "stop": "0/3000138"},
    "timestamp": {"start": 1795305662, "stop": 1795305672},
    "type": "full",
    "error": False,
}


def answer(code: int = 0, **changes: Any) -> str:
    """`info --output=json` of 2.45 with one backup; a field that later versions add is there too."""
    stanza = {
        "name": "holdfast",
        "status": {"code": code, "message": "ok", "lock": {"backup": {"held": False}, "restore": {"held": False}}},
        "archive": [
            {
                "database": {"id": 1, "repo-key": 1},
                "min": "000000010000000000000001",
                "max": "00000001000000000000000F",
            },
            {
                "database": {"id": 2, "repo-key": 1},
                "min": "000000010000000000000001",
                "max": "000000010000000000000003",
            },
        ],
        "db": [
            {"id": 1, "repo-key": 1, "system-id": 7000000000000000001, "version": "14"},
            {"id": 2, "repo-key": 1, "system-id": 7000000000000000002, "version": "15"},
        ],
        "backup": [BACKUP],
        "new-in-a-later-version": {},
    } | changes
    return json.dumps([stanza])


def test_info_is_read_with_the_archive_of_the_newest_database() -> None:
    found = parse_info(answer(), "holdfast")
    assert (found.healthy, found.archive_max) == (True, "000000010000000000000003")
    (one,) = found.backups
    assert (one.label, one.database_bytes, one.repository_bytes, one.damaged) == ("20261122-000102F", 31, 3, False)
    assert one.stop_lsn == 0x3000138


def test_backups_are_in_order_of_their_own_time_not_of_the_full_they_build_on() -> None:
    labels = ["20261122-000102F", "20261122-000102F_20261123-000000I", "20261122-120000F"]
    listed = [{**BACKUP, "label": label, "type": "incr" if label.endswith("I") else "full"} for label in labels]
    found = parse_info(answer(backup=listed), "holdfast")
    assert [one.label for one in found.backups] == [labels[0], labels[2], labels[1]]


def test_a_status_code_that_means_damage_is_a_fault_though_the_exit_code_is_zero() -> None:
    assert parse_info(answer(2, backup=[], archive=[]), "holdfast").backups == ()
    for code in (3, 4, 5, 6, 99):
        with pytest.raises(EngineFailed):
            parse_info(answer(code), "holdfast")


def test_a_damaged_backup_and_one_that_does_not_say_are_told_apart() -> None:
    silent = {key: value for key, value in BACKUP.items() if key != "error"}
    listed = [{**BACKUP, "error": True}, {**silent, "label": "20261123-000000F"}]
    assert [one.damaged for one in parse_info(answer(backup=listed), "holdfast").backups] == [True, None]


def test_a_store_that_is_away_and_one_that_refuses_are_told_apart_by_the_repository_s_own_words() -> None:
    def other(words: str) -> str:
        repo = [{"key": 1, "cipher": "aes-256-cbc", "status": {"code": 99, "message": words}}]
        return answer(99, backup=[], archive=[], db=[], repo=repo)

    with pytest.raises(EngineAway, match="cannot be reached"):
        parse_info(other("[HostConnectError] unable to connect to 'localhost:1': [111] Connection refused"), "holdfast")
    with pytest.raises(EngineFailed, match="identity's key"):
        parse_info(other("[ProtocolError] HTTP request failed with 403 (Forbidden):\n*** Path/Query"), "holdfast")
    with pytest.raises(EngineFailed, match="cipher pass"):
        parse_info(other("[FormatError] unable to load info file '/backup.info'"), "holdfast")


def test_the_newest_database_says_whose_backups_are_taken_now() -> None:
    found = parse_info(answer(), "holdfast")
    assert (found.server, found.database_id, found.archive) == (Server(7000000000000000002, "15"), 2, "15-2")
    older = [{**BACKUP, "database": {"id": 1}}, {**BACKUP, "label": "20261123-000000F"}]
    assert [one.label for one in parse_info(answer(backup=older), "holdfast").fulls()] == ["20261123-000000F"]


@pytest.mark.parametrize(
    "status",
    [
        # Written by hand from the fields that the release notes and the command reference name; not recorded.
        {"lock": {"backup": {"held": True, "pct-cplt": 42.5, "size": 1000, "size-cplt": 425}}},  # 2.48
        {"lock": {"backup": {"held": True, "pct-cplt": 42.5}, "restore": {"held": False}}},  # 2.56
        {
            "lock": {
                "backup": {"held": True, "pct-cplt": 42.5, "repo": [{"key": 1, "pct-cplt": 42.5, "size": 1000}]},
                "restore": {"held": True, "pct-cplt": 1.5},
            }
        },  # 2.59
    ],
)
def test_answers_of_later_versions_are_read(status: dict[str, Any]) -> None:
    later = {**BACKUP, "annotation": {"drill": "x"}, "backrest": {"format": 5, "version": "2.59"}, "link": None}
    later["info"] = {"delta": 30, "repository": {"delta": 3, "delta-map": 12, "size-map": 13}, "size": 31}
    found = parse_info(answer(status={"code": 0, "message": "ok"} | status, backup=[later]), "holdfast")
    assert found.running_percent == 42.5
    assert (found.backups[0].label, found.backups[0].repository_bytes) == (BACKUP["label"], 3)


def test_progress_is_read_while_a_backup_holds_the_lock() -> None:
    status = {"code": 0, "message": "ok", "lock": {"backup": {"held": True, "pct-cplt": 42.5}}}
    assert parse_info(answer(status=status), "holdfast").running_percent == 42.5
    assert parse_info(answer(), "holdfast").running_percent is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "holdfast"}]'])
def test_an_answer_of_another_shape_is_a_fault(text: str) -> None:
    with pytest.raises(EngineFailed):
        parse_info(text, "holdfast")


def test_an_unknown_stanza_is_an_empty_unhealthy_repository() -> None:
    found = parse_info("[]", "holdfast")
    assert (found.healthy, found.backups) == (False, ())


def settings(**changes: Any) -> conf.Settings:
    """Settings of an S3 repository."""
    server = conf.Server(data_dir=Path("/d"), socket_dir=Path("/s"), port=5432, user="u", database="db")
    repository = conf.S3(
        bucket="backups", endpoint="localhost", port=8333, region="us-east-1", access_key="AK", secret_key="SK",
        ca_file=Path("/ca.pem"),
    )  # fmt: skip
    given: dict[str, Any] = {
        "stanza": "holdfast", "repository": repository, "server": server, "work_dir": Path("/w"), "cipher_pass": "pass",
    }  # fmt: skip
    return conf.Settings(**(given | changes))


def test_the_repository_is_encrypted_verified_and_reached_by_path_style() -> None:
    lines = conf.render(settings()).splitlines()
    assert {
        "repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=pass", "repo1-storage-verify-tls=y",
        "repo1-s3-uri-style=path", "repo1-storage-ca-file=/ca.pem", "archive-async=y", "lock-path=/w/lock",
    } <= set(lines)  # fmt: skip
    assert not any(line.startswith("archive-push-queue-max") for line in lines)


@pytest.mark.parametrize("value", ["", "a\nrepo1-cipher-type=none", " a"])
def test_a_value_that_would_break_its_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="repo1-cipher-pass"):
        conf.render(settings(cipher_pass=value))


def test_no_secret_is_on_a_command_line_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "pgbackrest.conf"
    conf.write(path, conf.render(settings(cipher_pass="very-secret")))
    assert path.stat().st_mode & 0o777 == 0o600
    command = conf.archive_command(path, "holdfast")
    assert "very-secret" not in command
    assert command.endswith('archive-push "%p"')
    assert conf.archive_command(Path("/a b%c/x"), "s").startswith("pgbackrest '--config=/a b%%c/x'")


async def test_the_engine_gives_an_absent_store_up_before_it_is_given_up_itself(tmp_path: Path) -> None:
    """The engine tries four times; ended from outside it could not say what is away."""
    program, words = tmp_path / "engine", tmp_path / "words"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {words}\ncat <<'END'\n{answer()}\nEND\n", encoding="utf-8")
    program.chmod(0o700)
    found = await PgBackRest(str(program), "holdfast", tmp_path / "a", tmp_path / "b", tmp_path / "c").inspect()
    assert found.healthy
    [patience] = [word.partition("=")[2] for word in words.read_text().split() if word.startswith("--io-timeout=")]
    assert 4 * int(patience) < pgbackrest._ASK_SECONDS
