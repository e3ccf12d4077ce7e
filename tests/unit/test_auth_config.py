"""auth's configuration: what it refuses, all of it at once, and without quoting a value."""

from pathlib import Path

import pytest

from holdfast.usertoken import Key, Keys
from holdfast.usertoken.keys import write_keys
from libs.config import ConfigError, load
from services.auth.config import Config
from tests.support.auth import COOKIE_KEYS, CSRF_KEY, write_secrets
from tests.support.tokens import ROOT


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings that are accepted, with their secret files."""
    write_secrets(tmp_path)
    return {
        "HOLDFAST_GRPC_ADDRESS": "unix:/run/a.sock",
        "HOLDFAST_DATABASE_HOST": "/run",
        "HOLDFAST_DATABASE_USER": "holdfast_auth",
        "HOLDFAST_SECRETS_DIR": str(tmp_path),
        "HOLDFAST_ALLOWED_ORIGINS": "https://app.example.com, http://127.0.0.1:5173",
    }


def faults(environment: dict[str, str]) -> str:
    """Everything that was refused, as one text."""
    with pytest.raises(ConfigError) as caught:
        load(Config, environment)
    return "\n".join(caught.value.faults)


def test_a_whole_configuration_is_accepted(environment: dict[str, str]) -> None:
    config = load(Config, environment)
    assert config.origins() == {("https", "app.example.com", 443), ("http", "127.0.0.1", 5173)}


@pytest.mark.control("S7", "a wildcard refuses to start")
@pytest.mark.parametrize(
    "text",
    ["*", "https://*.example.com", "https://app.example.com/", "app.example.com", "null", "http://app.example.com",
     "https://app.example.com/x", "https://"],
)  # fmt: skip
def test_an_origin_that_is_no_exact_page_is_refused(environment: dict[str, str], text: str) -> None:
    assert "HOLDFAST_ALLOWED_ORIGINS" in faults({**environment, "HOLDFAST_ALLOWED_ORIGINS": text})


@pytest.mark.control("S6", "a CSRF key equal to another refuses to start")
def test_one_key_in_two_places_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    write_secrets(tmp_path, cookie_keys=write_keys(Keys(ROOT)))
    assert "secret cookie_keys" in faults(environment)
    write_secrets(tmp_path, cookie_keys=write_keys(Keys(Key("other", ROOT.secret), standby=COOKIE_KEYS.current)))
    assert "secret cookie_keys holds a key that is also in root_keys" in faults(environment)
    write_secrets(tmp_path, csrf_key=COOKIE_KEYS.current.secret)
    assert "secret csrf_key is equal to a key in cookie_keys" in faults(environment)
    write_secrets(tmp_path, csrf_key=write_keys(COOKIE_KEYS).split(b'"key": "')[1].split(b'"')[0])
    assert "secret csrf_key is equal to a key in cookie_keys" in faults(environment)


@pytest.mark.parametrize("name", ["root_keys", "cookie_keys", "csrf_key", "database_password"])
def test_a_missing_secret_is_refused(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    (tmp_path / name).unlink()
    assert f"secret {name} is missing" in faults(environment)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("csrf_key", b"wee-secret"),
        ("csrf_key", b"changeme" * 8),
        ("root_keys", b'{"current": {"kid": "a", "key": "c2hvcnQ"}, "padding": "0123456789"}'),
        ("cookie_keys", b"this is no JSON, and long enough to be a secret"),
        ("cookie_keys", write_keys(Keys(Key("weak", b"a" * 32)))),
        ("root_keys", b'{"standby": null, "note": "there is no current key in here"}'),
    ],
)
def test_an_unfit_secret_is_refused_and_not_quoted(
    environment: dict[str, str], tmp_path: Path, name: str, content: bytes
) -> None:
    write_secrets(tmp_path, **{name: content})
    told = faults(environment)
    assert f"secret {name}" in told
    assert content.decode() not in told
    assert CSRF_KEY.decode() not in told


def test_everything_wrong_is_told_at_once(environment: dict[str, str]) -> None:
    told = faults(
        {
            **environment,
            "HOLDFAST_SMTP_TLS": "off",
            "HOLDFAST_SMTP_HOST": "mail.example.com",
            "HOLDFAST_SMTP_USER": "somebody",
            "HOLDFAST_VERIFY_PAGE": "http://app.example.com/verify",
            "HOLDFAST_ALLOWED_ORIGINS": "*",
        }
    )
    for name in ("SMTP_TLS", "SMTP_USER", "VERIFY_PAGE", "ALLOWED_ORIGINS"):
        assert f"HOLDFAST_{name}" in told


@pytest.mark.control("S1", "an access handle lives at most 30 minutes")
@pytest.mark.parametrize(
    ("name", "value"),
    [("ACCESS_SECONDS", "1801"), ("SESSION_SECONDS", "86401"), ("REMEMBERED_SECONDS", "604801"),
     ("ARGON2_MEMORY_KIB", "19455"), ("ARGON2_TIME_COST", "1"), ("HASH_QUEUE_SECONDS", "0")],
)  # fmt: skip
def test_a_bound_cannot_be_stepped_over(environment: dict[str, str], name: str, value: str) -> None:
    assert f"HOLDFAST_{name}" in faults({**environment, f"HOLDFAST_{name}": value})
