"""Secrets: what is refused, what never prints, and what a changed file does."""

import json
import os
import pickle
import secrets
from pathlib import Path

import pytest

from libs import secret
from libs.secret import Secret, SecretFault, Watched
from tests.unit.lines import Lines

GOOD = b"q7Zt0vN2mXc81LrKp5Yw9sHd3Jf6BgTa"


def put(path: Path, value: bytes, mode: int = 0o600) -> str:
    """Replace the file as a mount does: a new inode under the old name."""
    new = path.with_suffix(".new")
    new.write_bytes(value)
    new.chmod(mode)
    new.rename(path)
    return str(path)


@pytest.mark.control("K1", "a secret does not print")
def test_a_secret_does_not_print_and_still_reveals() -> None:
    value = Secret(GOOD)
    shown = [
        str(value),
        repr(value),
        f"{value}",
        f"{value!r:>9}",
        f"{value}",
        repr([value]),
        repr({"a": value}),
    ]
    assert not [text for text in shown if GOOD.decode() in text]
    with pytest.raises(TypeError):
        pickle.dumps(value)
    with pytest.raises(TypeError):
        json.dumps(value)
    assert value.reveal() == GOOD
    assert value.text() == GOOD.decode()


@pytest.mark.control("K1", "weak and known secrets are refused")
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (GOOD[:31], "shorter"),
        (b"", "shorter"),
        (b"\x00" * 32, "variety"),
        (b"a" * 64, "variety"),
        (b"changeme" * 4, "example"),
        (b"ChangeMe-please-change-this-0192", "example"),
        (b"secret" * 8, "example"),
        (b"0123456789" * 4, "example"),
        (b"your-super-secret-jwt-token-with-at-least-32-characters-long", "example"),
        (b"a-string-secret-at-least-256-bits-long", "example"),
        (GOOD[:16] * 2, "repeats"),
    ],
)
def test_a_weak_secret_is_refused_without_being_quoted(tmp_path: Path, value: bytes, why: str) -> None:
    with pytest.raises(SecretFault, match=why) as refused:
        secret.read(put(tmp_path / "key", value))
    assert not value or value.decode() not in str(refused.value)
    assert refused.value.__cause__ is None


def test_random_secrets_of_every_usual_spelling_are_accepted() -> None:
    for _ in range(200):
        for value in (secrets.token_bytes(32), secrets.token_hex(32).encode(), secrets.token_urlsafe(32).encode()):
            assert secret.weakness(value) == ""


def test_one_trailing_newline_is_not_part_of_a_secret(tmp_path: Path) -> None:
    assert secret.read(put(tmp_path / "key", GOOD + b"\n")) == Secret(GOOD)
    assert secret.read(put(tmp_path / "key", GOOD + b"\r\n")) == Secret(GOOD)
    assert secret.read(put(tmp_path / "key", GOOD + b" \n")) == Secret(GOOD + b" ")


@pytest.mark.control("K1", "a secret file open to others is refused")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o601])
def test_a_secret_file_open_to_others_is_refused_in_production(tmp_path: Path, mode: int) -> None:
    path = put(tmp_path / "key", GOOD, mode)
    with pytest.raises(SecretFault, match="open to group or world"):
        secret.read(path)
    assert secret.read(path, private=False) == Secret(GOOD)
    assert secret.read(put(tmp_path / "key", GOOD, 0o400)) == Secret(GOOD)


def test_what_is_no_file_is_refused_and_hangs_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    for name, why in (("fifo", "regular"), ("directory", "regular"), ("nothing", "missing")):
        with pytest.raises(SecretFault, match=why):
            secret.read(str(tmp_path / name))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretFault, match="larger"):
        secret.read(put(tmp_path / "key", secrets.token_bytes(secret.MAX_BYTES + 1)))


def test_equal_secrets_are_found_and_different_ones_are_not() -> None:
    one, other = Secret(GOOD), Secret(GOOD[::-1])
    assert secret.equal([("a", one), ("b", other), ("c", Secret(GOOD))]) == [("a", "c")]
    assert secret.equal([("a", one), ("b", other), ("c", Secret(b"")), ("d", Secret(b""))]) == []


@pytest.mark.control("K1", "a changed secret file is read again")
def test_a_changed_file_is_read_again_and_an_unfit_one_keeps_the_old_value(tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "key"
    watched = Watched(put(path, GOOD), bytes.upper)
    assert (watched(), watched.generation) == (GOOD.upper(), 1)
    put(path, GOOD[::-1])
    assert (watched(), watched.generation) == (GOOD[::-1].upper(), 2)
    put(path, b"short")
    assert [watched(), watched()] == [GOOD[::-1].upper()] * 2
    path.unlink()
    assert [watched(), watched()] == [GOOD[::-1].upper()] * 2
    put(path, GOOD)
    assert (watched(), watched.generation) == (GOOD.upper(), 3)
    kept = [line["fault"] for line in lines.read() if line["event"] == "secret_kept"]
    assert kept == ["is shorter than 32 bytes", "is missing"]


def test_a_file_written_in_place_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    watched = Watched(put(path, GOOD), bytes)
    path.write_bytes(GOOD + b"more")
    assert watched() == GOOD + b"more"


def test_a_value_the_parser_refuses_keeps_the_old_one_and_is_not_quoted(tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "key"
    watched = Watched(put(path, b'{"kid": "one", "key": "%b"}' % GOOD), json.loads)
    put(path, b'{"kid": "two", "key": "%b"' % GOOD)
    assert watched()["kid"] == "one"
    assert GOOD.decode() not in lines.text
    assert "JSONDecodeError" in lines.text


def test_the_first_reading_has_to_succeed(tmp_path: Path) -> None:
    with pytest.raises(SecretFault, match="missing"):
        Watched(str(tmp_path / "key"), bytes)
