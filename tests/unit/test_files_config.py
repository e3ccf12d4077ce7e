"""files' configuration: how long bytes of removed files are kept, and what keys may be."""

import os
from pathlib import Path

import pytest

from holdfast.usertoken.keys import Key, Keys, write_keys
from libs.config import ConfigError, load
from services.backup.domain.retention import CEILING
from services.files.config import Config
from tests.support.tokens import keys

THE_CEILING = CEILING.total_seconds()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings that production accepts, with their secret files."""
    secrets = {
        "database_password": b"6vGt0-password-of-the-tests-only-9xQ",
        "s3_access_key": b"Kq7ZpXw2LmRt9VbN4cYs",
        "s3_secret_key": b"a8Fh3kLq0ZxW5vTn7RmPy2JcUe9GdSb1",
        "s3_keys_access_key": b"Zr8TnWb3QyLm5Vx6KcJd",
        "s3_keys_secret_key": b"q7Nd2Xb9VtLs4Rk8Zp1Hm6Wc3Gy5Tf0J",
        "key_encryption_keys": write_keys(Keys(Key("a", os.urandom(32)), previous=Key("b", os.urandom(32)))),
        "page_key": b"9dKw1Zr5Xq8Lm3Vt7Hp0Ny4Bc6Gs2Fj+",
        "user_token_keys": write_keys(keys("files")),
    }
    for name, content in secrets.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(content)
    return {
        "HOLDFAST_GRPC_ADDRESS": "unix:/run/f.sock",
        "HOLDFAST_DATABASE_HOST": "/run",
        "HOLDFAST_DATABASE_USER": "holdfast_files",
        "HOLDFAST_SECRETS_DIR": str(tmp_path),
        "HOLDFAST_S3_ENDPOINT": "https://store",
    }


def test_by_itself_bytes_are_kept_as_long_as_the_oldest_backup(environment: dict[str, str]) -> None:
    assert load(Config, environment).recovery_seconds >= THE_CEILING


@pytest.mark.control("B8", "object deletes lag the recovery window")
def test_production_refuses_to_remove_bytes_that_the_oldest_backup_would_name(environment: dict[str, str]) -> None:
    assert load(Config, environment | {"HOLDFAST_RECOVERY_SECONDS": f"{THE_CEILING:.0f}"}).production
    with pytest.raises(ConfigError) as caught:
        load(Config, environment | {"HOLDFAST_RECOVERY_SECONDS": f"{THE_CEILING - 1:.0f}"})
    [fault] = caught.value.faults
    assert fault.startswith("HOLDFAST_RECOVERY_SECONDS has to be at least")


@pytest.mark.control("F4", "a missing or weak root key is refused")
@pytest.mark.control("K1", "a missing secret is refused")
@pytest.mark.parametrize("name", ["key_encryption_keys", "s3_keys_access_key", "s3_keys_secret_key"])
def test_without_what_keys_need_nothing_starts(environment: dict[str, str], name: str) -> None:
    assert load(Config, environment).key_encryption_keys
    (Path(environment["HOLDFAST_SECRETS_DIR"]) / name).unlink()
    with pytest.raises(ConfigError) as caught:
        load(Config, environment)
    assert caught.value.faults == [f"secret {name} is missing"]


@pytest.mark.control("F4", "a missing or weak root key is refused")
@pytest.mark.parametrize(
    "text",
    [
        b"not-a-key-file-at-all-but-long-enough-to-be-a-secret",
        write_keys(Keys(Key("a", bytes(32)))),
        write_keys(Keys(Key("a", os.urandom(32)), previous=Key("b", b"changeme" * 4))),
        write_keys(Keys(Key("a", os.urandom(64)))),
    ],
)
def test_a_root_key_that_is_none_or_weak_is_refused_without_showing_it(
    environment: dict[str, str], text: bytes
) -> None:
    (Path(environment["HOLDFAST_SECRETS_DIR"]) / "key_encryption_keys").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load(Config, environment)
    [fault] = caught.value.faults
    assert fault.startswith("secret key_encryption_keys cannot be used: ")
    assert text.decode()[:20] not in fault
    assert "changeme" not in fault


@pytest.mark.control("F4", "users' keys lie outside the database, in a bucket and with an identity of their own")
def test_keys_and_files_in_one_bucket_and_by_one_identity_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Config, environment | {"HOLDFAST_S3_KEYS_BUCKET": "files"})
    assert caught.value.faults == ["HOLDFAST_S3_KEYS_BUCKET has to be another bucket than HOLDFAST_S3_BUCKET"]
    secrets = Path(environment["HOLDFAST_SECRETS_DIR"])
    (secrets / "s3_keys_access_key").write_bytes((secrets / "s3_access_key").read_bytes())
    with pytest.raises(ConfigError) as caught:
        load(Config, environment)
    assert caught.value.faults == ["secret s3_keys_access_key is equal to secret s3_access_key"]
