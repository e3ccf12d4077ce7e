"""files' configuration: bytes of removed files are never kept for a shorter time than the oldest backup lives."""

from pathlib import Path

import pytest

from holdfast.usertoken.keys import write_keys
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
