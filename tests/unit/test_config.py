"""Configuration: every fault at once, nothing quoted, development only where nobody else can reach."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from libs import config
from libs.config import ConfigError, ServiceConfig, setting
from libs.secret import Secret

ONE = b"q7Zt0vN2mXc81LrKp5Yw9sHd3Jf6BgTa"
OTHER = b"aN4xT1rWz8Qe6Um0Ck3Vb7Yi5Po2Ls9D"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example(ServiceConfig):
    service: str = "example"
    max_bytes: int = setting("Largest file.", default=1024, unit="bytes", least=1, most=4096)
    origins: tuple[str, ...] = setting("Origins.", default=())
    strict: bool = setting("Strictness.", default=True)
    mode: Literal["slow", "fast"] = setting("Pace.", default="slow")
    page_key: Secret = config.secret("Key of page tokens.")
    spare_key: Secret = config.secret("A second key.", optional=True)

    def faults(self) -> list[str]:
        return ["the mode is too fast"] if self.mode == "fast" and self.strict else []


def environ(directory: Path, **changed: str | None) -> dict[str, str]:
    """A sound environment with secrets in *directory*, changed; None removes."""
    for name, value in (("database_password", ONE), ("page_key", OTHER)):
        if not (directory / name).exists():
            (directory / name).write_bytes(value + b"\n")
            (directory / name).chmod(0o400)
    sound: dict[str, str | None] = {
        "HOLDFAST_GRPC_ADDRESS": "unix:/run/holdfast/example.sock",
        "HOLDFAST_DATABASE_HOST": "/run/holdfast",
        "HOLDFAST_DATABASE_USER": "holdfast_example",
        "HOLDFAST_SECRETS_DIR": str(directory),
        "PATH": "/usr/bin",
    }
    sound.update(changed)
    return {name: value for name, value in sound.items() if value is not None}


def faults(given: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        config.load(Example, given)
    return refused.value.faults


def test_a_sound_environment_is_loaded_with_its_defaults(tmp_path: Path) -> None:
    given = environ(tmp_path, HOLDFAST_ORIGINS="https://a.example, https://b.example", HOLDFAST_STRICT="false")
    loaded = config.load(Example, given)
    assert loaded.origins == ("https://a.example", "https://b.example")
    assert (loaded.strict, loaded.max_bytes, loaded.environment, loaded.production) == (False, 1024, "production", True)
    assert loaded.database_password == Secret(ONE)
    assert not loaded.spare_key
    assert ONE.decode() not in repr(loaded)


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    (tmp_path / "page_key").write_bytes(b"short")
    (tmp_path / "page_key").chmod(0o600)
    found = faults(
        environ(
            tmp_path,
            HOLDFAST_GRPC_ADDRESS=None,
            HOLDFAST_DATABASE_USER="",
            HOLDFAST_DATABASE_PORT="many",
            HOLDFAST_MAX_BYTES="5000",
            HOLDFAST_DRAIN_SECONDS="nan",
            HOLDFAST_STRICT="yes",
            HOLDFAST_MODE="medium",
            HOLDFAST_METRICS_ADDRESS="nine",
            HOLDFAST_MAX_BYTE="1",
        )
    )
    expected = [
        "HOLDFAST_GRPC_ADDRESS is missing: Where gRPC is served.",
        "HOLDFAST_METRICS_ADDRESS has to be unix:/path or host:port",
        "HOLDFAST_DATABASE_PORT is not a whole number",
        "HOLDFAST_DATABASE_USER is empty",
        "HOLDFAST_DRAIN_SECONDS is not a finite number",
        "HOLDFAST_MAX_BYTES has to be at most 4096 bytes",
        "HOLDFAST_STRICT has to be true or false",
        "HOLDFAST_MODE has to be slow or fast",
        "secret page_key is shorter than 32 bytes",
        "HOLDFAST_MAX_BYTE is no setting of this service; HOLDFAST_MAX_BYTES is",
    ]
    assert found == expected


def test_no_fault_quotes_a_value(tmp_path: Path) -> None:
    pasted = ONE.decode()
    found = faults(
        environ(
            tmp_path,
            HOLDFAST_DATABASE_PORT=pasted,
            HOLDFAST_MODE=pasted,
            HOLDFAST_STRICT=pasted,
            HOLDFAST_GRPC_ADDRESS=pasted,
            HOLDFAST_OTLP_ENDPOINT=pasted,
            HOLDFAST_DRAIN_SECONDS=pasted,
            HOLDFAST_PAGE_KEY=pasted,
        )
    )
    assert len(found) == 6
    assert pasted not in str(found)


@pytest.mark.control("K1", "a secret as an environment value is refused in production")
def test_a_secret_as_an_environment_value_is_refused_in_production(tmp_path: Path) -> None:
    given = environ(tmp_path, HOLDFAST_PAGE_KEY=OTHER[::-1].decode())
    assert faults(given) == ["HOLDFAST_PAGE_KEY is a secret: in production it comes from the file page_key only"]
    loaded = config.load(Example, given | {"HOLDFAST_ENVIRONMENT": "development"})
    assert loaded.page_key == Secret(OTHER[::-1])


@pytest.mark.control("K1", "equal secrets are refused")
def test_equal_secrets_are_refused(tmp_path: Path) -> None:
    given = environ(tmp_path)
    assert config.load(Example, given).page_key == Secret(OTHER)
    (tmp_path / "spare_key").write_bytes(OTHER)
    (tmp_path / "spare_key").chmod(0o600)
    assert faults(given) == ["secret spare_key is equal to secret page_key"]


@pytest.mark.control("K1", "a missing secret is refused")
def test_a_missing_secret_is_refused_and_an_optional_one_may_be_absent(tmp_path: Path) -> None:
    given = environ(tmp_path)
    assert not config.load(Example, given).spare_key
    (tmp_path / "page_key").unlink()
    assert faults(given) == ["secret page_key is missing"]


def test_a_secret_readable_by_others_is_refused_in_production(tmp_path: Path) -> None:
    given = environ(tmp_path)
    (tmp_path / "page_key").chmod(0o644)
    assert faults(given) == ["secret page_key is open to group or world (mode 0644)"]
    assert config.load(Example, given | {"HOLDFAST_ENVIRONMENT": "development"}).page_key == Secret(OTHER)


@pytest.mark.control("K6", "production is the default and development needs loopback")
@pytest.mark.parametrize(
    ("name", "exposed", "local"),
    [
        ("GRPC_ADDRESS", "0.0.0.0:7001", "127.0.0.1:7001"),
        ("HTTP_ADDRESS", "[::]:7002", "[::1]:7002"),
        ("METRICS_ADDRESS", "10.0.0.5:9101", "localhost:9101"),
        ("DATABASE_HOST", "db.example", "127.0.0.1"),
    ],
)
def test_development_is_refused_where_others_can_reach(tmp_path: Path, name: str, exposed: str, local: str) -> None:
    given = environ(tmp_path) | {f"HOLDFAST_{name}": exposed, "HOLDFAST_ENVIRONMENT": "development"}
    found = faults(given)
    assert len(found) == 1
    assert found[0].startswith(f"HOLDFAST_{name} has to be loopback")
    assert config.load(Example, given | {f"HOLDFAST_{name}": local}).environment == "development"
    assert config.load(Example, given | {"HOLDFAST_ENVIRONMENT": "production"}).production


def test_tls_to_the_database_is_off_only_where_nobody_listens(tmp_path: Path) -> None:
    off = environ(tmp_path, HOLDFAST_DATABASE_TLS="off")
    assert config.load(Example, off).database_tls == "off"
    assert faults(off | {"HOLDFAST_DATABASE_HOST": "10.1.2.3"}) == [
        "HOLDFAST_DATABASE_TLS can be off only through a socket or on loopback"
    ]


def test_what_a_subclass_finds_is_listed_beside_what_its_base_finds(tmp_path: Path) -> None:
    found = faults(environ(tmp_path, HOLDFAST_MODE="fast", HOLDFAST_OTLP_ENDPOINT="collector"))
    assert found == ["HOLDFAST_OTLP_ENDPOINT has to be an http:// or https:// URL", "the mode is too fast"]


@pytest.mark.parametrize(
    "path", ["unix:relative.sock", "unix:", "unix:/" + "x" * 107, "7001", ":7001", "host:", "h:70000"]
)
def test_an_address_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"has to|longer"):
        config.address(path)
    assert config.address("unix:/" + "x" * 106) == "/" + "x" * 106
    assert config.address("[::1]:7001") == ("::1", 7001)


def test_the_description_names_every_setting_and_secret_with_its_unit_and_default() -> None:
    table = config.describe(Example)
    assert "HOLDFAST_MAX_BYTES" in table
    row = next(line for line in table.splitlines() if line.startswith("HOLDFAST_MAX_BYTES"))
    assert "whole number, bytes" in row
    assert "1024" in row
    assert "secret file page_key" in table
    assert "SERVICE " not in table
