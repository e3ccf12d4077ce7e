"""Every service sends the spans of its calls to the collector, as its composition root puts it together."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.stack.credentials import fresh_signing_key
from deploy.stack.postgres import binaries
from holdfast.usertoken.keys import write_keys
from libs.config import load
from libs.process import App
from services.auth.app import build as build_auth
from services.auth.config import Config as AuthConfig
from services.backup.app import build as build_backup
from services.backup.config import Config as BackupConfig
from services.events.app import build as build_events
from services.events.config import Config as EventsConfig
from services.files.app import build as build_files
from services.files.config import Config as FilesConfig
from tests.support.auth import COOKIE_KEYS
from tests.support.collector import listening
from tests.support.tokens import keys

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_PLAIN = (
    "database_password", "page_key", "csrf_key", "heartbeat_key", "s3_access_key", "s3_secret_key",
    "s3_keys_access_key", "s3_keys_secret_key",
)  # fmt: skip
_SERVICES: dict[str, tuple[type[Any], Callable[[Any], App]]] = {
    "auth": (AuthConfig, build_auth),
    "files": (FilesConfig, build_files),
    "events": (EventsConfig, build_events),
    "backup": (BackupConfig, build_backup),
}
_DOORS = [
    ("auth", "grpc", "holdfast.auth.v1.AuthService/GetMe"),
    ("files", "grpc", "holdfast.files.v1.FileService/ListFiles"),
    ("events", "grpc", "holdfast.events.v1.EventService/Publish"),
    ("backup", "grpc", "holdfast.backup.v1.BackupService/ListBackups"),
    ("backup", "operator", "holdfast.backup.v1.BackupService/ListBackups"),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="hftr-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def app(service: str, directory: Path, collector: str) -> App:
    """The service as it is built from its settings; everything it depends on is away."""
    config_type, build = _SERVICES[service]
    secrets = {name: f"{name} of the tests, long enough for anything".encode() for name in _PLAIN}
    secrets |= {"root_keys": write_keys(keys("root")), "cookie_keys": write_keys(COOKIE_KEYS)}
    secrets |= {"user_token_keys": write_keys(keys(service)), "service_credential": write_keys(keys("service"))}
    secrets |= {"evidence_key": fresh_signing_key(), "key_encryption_keys": write_keys(keys("roots of files"))}
    for name, content in secrets.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(content)
    values: dict[str, object] = {
        "environment": "development", "secrets_dir": directory, "run_dir": directory,
        "grpc_address": f"unix:{directory}/grpc", "database_host": directory, "database_user": "nobody",
        "database_tls": "off", "otlp_endpoint": collector, "trace_ratio": 1, "edge_notice_seconds": 0,
        "drain_seconds": 5, "auth_address": f"unix:{directory}/auth", "s3_endpoint": "https://127.0.0.1:9",
        "smtp_tls": "off", "mail_from": "a@example.com", "allowed_origins": "https://app.example.com",
        "operator_socket": directory / "operator" / "socket", "state_dir": directory,
        "pgbackrest_config": directory / "pgbackrest.conf", "postgres_binaries": binaries(),
    }  # fmt: skip
    asked = {field.name for field in fields(config_type)}
    found = {f"HOLDFAST_{name.upper()}": str(value) for name, value in values.items() if name in asked}
    return build(load(config_type, found))


@pytest.mark.parametrize(("service", "door", "method"), _DOORS)
async def test_a_call_is_a_span_of_its_service_under_the_callers_trace(
    directory: Path, service: str, door: str, method: str
) -> None:
    address = {"grpc": f"unix:{directory}/grpc", "operator": f"unix:{directory}/operator/socket"}[door]
    async with listening() as (collector, endpoint):
        running = app(service, directory, endpoint)
        await running.start()
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(f"/{method}", request_serializer=bytes, response_deserializer=bytes)
            answer = call(b"", metadata=(("traceparent", f"00-{_TRACE}-b7ad6b7169203331-01"),), timeout=10)
            assert await answer.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        await running.shutdown(notice=False)
    assert collector.services == {service}
    found = [span for span in collector.spans if span.trace_id.hex() == _TRACE]
    assert [span.name for span in found] == [method]
