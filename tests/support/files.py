"""The files service in this process (or in one of its own, to be killed) on a real database and a real SeaweedFS."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from holdfast.files.v1 import file_service_pb2 as pb
from holdfast.files.v1 import file_service_pb2_grpc
from holdfast.usertoken.keys import Key, Keys, write_keys
from libs.config import load
from libs.principal import User
from libs.process import App
from libs.rpc.channel import channel
from services.files.app import build
from services.files.config import Config
from tests.support.events import World
from tests.support.postgres import PASSWORDS
from tests.support.seaweed import SeaweedServer
from tests.support.tokens import keys, user_token

SECONDS = 30.0
"""How long a test waits for what has to happen; nothing is ever expected to take it."""
MIB = 1024 * 1024
ROOTS = write_keys(Keys(*(Key(kid, hashlib.sha256(f"root {kid} of the tests".encode()).digest()) for kid in "ab")))
"""The root keys that wrap users' keys."""
KOREAN = "보고서/2026년 결산 (최종).pdf"


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[None]:
    """The block ends with a gRPC error of this code and this ErrorInfo reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    trailers: Any = caught.value.trailing_metadata()
    status = status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"])
    told = [info.reason for info in _infos(status)]
    assert (caught.value.code(), told) == (code, [reason])


def _infos(status: status_pb2.Status) -> Iterator[error_details_pb2.ErrorInfo]:
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            yield info


def parent(who: User) -> str:
    return f"organizations/{who.organization_id}/users/{who.user_id}"


def token(who: User, *, audience: str = "files", **bent: Any) -> str:
    """A user token as the edge would put on *who*'s calls."""
    return user_token(audience, user=who.user_id, organization=who.organization_id, sid="session1", **bent)


async def uploading(
    header: pb.UploadHeader, content: bytes, *, chunk: int = 256 * 1024
) -> AsyncIterator[pb.UploadFileRequest]:
    """The messages of an upload."""
    yield pb.UploadFileRequest(header=header)
    for at in range(0, len(content), chunk):
        yield pb.UploadFileRequest(data=content[at : at + chunk])


def header(who: User, path: str, content: bytes, **more: Any) -> pb.UploadHeader:
    return pb.UploadHeader(parent=parent(who), path=path, size_bytes=len(content), **more)


class Person:
    """One user's way to the service: gRPC by `stub`, HTTP by `http`, as through the edge."""

    def __init__(self, who: User, config: Config) -> None:
        async def tokens() -> str:
            return token(who)

        self.who = who
        self.parent = parent(who)
        self._channel = channel(config.grpc_address, tokens=tokens)
        self.stub: Any = file_service_pb2_grpc.FileServiceStub(self._channel)
        self.http = http_client(config, {"x-user-token": token(who)})

    async def upload(self, path: str, content: bytes, **more: Any) -> pb.File:
        answer = await self.stub.UploadFile(uploading(header(self.who, path, content, **more), content))
        file: pb.File = answer.file
        return file

    async def download(self, name: str, *, offset: int = 0, length: int = 0) -> bytes:
        parts = [
            part
            async for part in self.stub.DownloadFile(pb.DownloadFileRequest(name=name, offset=offset, length=length))
        ]
        assert parts[0].WhichOneof("part") == "file"
        return b"".join(part.data for part in parts[1:])

    async def close(self) -> None:
        await self._channel.close(None)
        await self.http.aclose()


def http_client(config: Config, headers: dict[str, str]) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=config.http_address.removeprefix("unix:"))
    return httpx.AsyncClient(transport=transport, base_url="http://files", headers=headers, timeout=SECONDS)


@dataclass(slots=True)
class Service:
    """A running service and the people who use it."""

    app: App | None
    config: Config
    world: World
    seaweed: SeaweedServer
    people: list[Person] = field(default_factory=list)

    def person(self, who: User | None = None) -> Person:
        made = Person(who or self.world.user(), self.config)
        self.people.append(made)
        return made

    def anybody(self, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
        """An HTTP client with these headers and no other."""
        return http_client(self.config, headers or {})

    def versions(self, who: User) -> list[tuple[str, str, str]]:
        """(state, path, object key) of every version row of *who*, oldest first."""
        rows = self.world.sql(
            "SELECT state, path, user_id || '/' || object_id || '/' || id FROM files.versions"
            " WHERE user_id = %s ORDER BY id",
            who.user_id,
        )
        return [(str(row[0]), str(row[1]), str(row[2])) for row in rows]

    def objects(self, who: User) -> set[str]:
        """The keys the object store has under *who*'s id."""
        listed = self.seaweed.client("files").list_objects_v2(Bucket="files", Prefix=f"{who.user_id}/")
        return {str(each["Key"]) for each in listed.get("Contents", [])}

    def events(self, who: User) -> list[tuple[str, dict[str, Any]]]:
        """(type, data) of *who*'s events in order."""
        rows = self.world.sql(
            "SELECT type, data FROM events.entries WHERE user_id = %s ORDER BY event_offset", who.user_id
        )
        return [(str(row[0]), dict(row[1])) for row in rows]

    def finished_jobs(self, who: User) -> list[str]:
        """The types of *who*'s jobs that have ended."""
        return [str(row[0]) for row in self.world.sql("SELECT type FROM jobs.history WHERE user_id = %s", who.user_id)]

    def audit(self, who: User) -> list[str]:
        """The actions in the audit trail of *who*."""
        rows = self.world.sql("SELECT action FROM audit.entries WHERE actor_id = %s ORDER BY id", who.user_id)
        return [str(row[0]) for row in rows]

    async def close(self) -> None:
        for each in self.people:
            await each.close()


@dataclass(slots=True)
class Files:
    """Starts services on this module's database."""

    world: World
    seaweed: SeaweedServer
    made: int = 0

    @asynccontextmanager
    async def service(self, **settings: object) -> AsyncIterator[Service]:
        """A running service in this process; *settings* are fields of its Config, and `roots`: its root keys' file."""
        config = load(Config, self.environment(settings))
        made = Service(build(config), config, self.world, self.seaweed)
        assert made.app is not None
        await made.app.start()
        try:
            await serving(config)
            yield made
        finally:
            await made.close()
            await made.app.shutdown()

    @asynccontextmanager
    async def process(self, **settings: object) -> AsyncIterator[tuple[Service, "subprocess.Popen[bytes]"]]:
        """The service as a program of its own, to be signalled."""
        environment = self.environment(settings)
        config = load(Config, environment)
        log = (self.world.directory / f"files{self.made}.log").open("wb")
        process = subprocess.Popen(  # noqa: ASYNC220 - returns as soon as the program runs
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "services.files", "serve"],
            env=self.program_environment(environment),
            stdout=log,
            stderr=log,
        )
        made = Service(None, config, self.world, self.seaweed)
        try:
            await serving(config)
            yield made, process
        finally:
            log.close()
            await made.close()
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)

    def program_environment(self, settings: dict[str, str]) -> dict[str, str]:
        """What a program of ours is started with."""
        return {**settings, "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}

    def environment(self, settings: dict[str, object]) -> dict[str, str]:
        self.made += 1
        roots = settings.pop("roots", ROOTS)
        assert isinstance(roots, bytes)
        name = f"files{self.made}"
        pair, keeper = (self.seaweed.seaweed.identities[name] for name in ("files", "files-keys"))
        secrets = _secrets(
            self.world.directory / f"{name}.secrets",
            {
                "database_password": PASSWORDS["holdfast_files"],
                "user_token_keys": write_keys(keys("files")),
                "page_key": hashlib.sha256(b"page key of the tests").digest(),
                "s3_access_key": pair.access_key.encode(),
                "s3_secret_key": pair.secret_key.encode(),
                "s3_keys_access_key": keeper.access_key.encode(),
                "s3_keys_secret_key": keeper.secret_key.encode(),
                "key_encryption_keys": roots,
            },
        )
        login = self.world.database.login("files")
        values: dict[str, object] = {
            "environment": "development",
            "grpc_address": f"unix:{self.world.directory}/{name}.grpc",
            "http_address": f"unix:{self.world.directory}/{name}.http",
            "database_host": login.database_host,
            "database_port": login.database_port,
            "database_name": login.database_name,
            "database_user": login.database_user,
            "secrets_dir": secrets,
            "s3_endpoint": self.seaweed.seaweed.endpoint,
            "s3_ca_file": self.seaweed.seaweed.ca_file,
            "edge_notice_seconds": 0,
            "drain_seconds": 20,
            **settings,
        }
        return {f"HOLDFAST_{key.upper()}": str(value) for key, value in values.items()}


async def serving(config: Config, *, wanted: str = "SERVING") -> None:
    """Wait until health says *wanted*."""
    async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(config.grpc_address) as made:
        stub: Any = health_pb2_grpc.HealthStub(made)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        async for answer in watch:
            if health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == wanted:
                watch.cancel()
                return


async def until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*, asked in a thread, which something else makes true."""
    async with asyncio.timeout(SECONDS):
        # Rows and objects have nobody here who could set an event.
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _secrets(directory: Path, values: dict[str, bytes]) -> Path:
    directory.mkdir(mode=0o700)
    for name, value in values.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(value)
    return directory


@pytest.fixture(scope="module")
def files(world: World, seaweed: SeaweedServer) -> Files:
    """Starts services on this module's database."""
    return Files(world, seaweed)


@pytest.fixture(scope="module")
async def service(files: Files) -> AsyncIterator[Service]:
    """The module's usual service."""
    async with files.service() as made:
        yield made
