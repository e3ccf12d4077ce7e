"""A running auth service on a real database, with a real mail catcher, and questions asked as the edge asks them."""

import asyncio
import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import deploy.stack
from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.usertoken import Key, Keys, mint_service_token
from holdfast.usertoken.keys import write_keys
from libs import clock
from libs.config import load
from libs.process import App
from services.auth.app import build
from services.auth.config import Config
from services.auth.ops import admission
from tests.support import people
from tests.support.people import Person
from tests.support.postgres import PASSWORDS, TestDatabase
from tests.support.tokens import ROOT, keys
from tests.support.tools import tool

ORIGIN = "https://app.example.com"
COOKIE_KEYS = Keys(
    Key("c2", b"the cookie key that signs in tests..2"), previous=Key("c1", b"the cookie key before it in tests.1")
)
CSRF_KEY = b"the csrf key of the tests 0123456789 xyz"
AUTH = "/holdfast.auth.v1.AuthService"
TOKEN = "/holdfast.auth.v1.TokenService"
_SECONDS = 10.0
_CATCHER = str(Path(deploy.stack.__path__[0], "catcher.py"))


class Clock:
    """Wall time, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return clock.now() + self.ahead


@dataclass(frozen=True, slots=True)
class Decision:
    """What the check answered."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def user_token(self) -> str:
        return str(self.headers.get("x-user-token", ""))

    @property
    def reason(self) -> str:
        """The ErrorInfo's reason of a denial, in whichever form it came."""
        if "grpc-status-details-bin" not in self.headers:
            return str(json.loads(self.body)["error"]["reason"])
        return reason_of(unbase64(self.headers["grpc-status-details-bin"]))


@dataclass(slots=True)
class Replica:
    """One process of auth, in this one."""

    app: App
    config: Config
    channel: grpc.aio.Channel
    web: httpx.AsyncClient

    async def check(
        self,
        path: str,
        *,
        audience: str = "auth",
        method: str = "POST",
        content_type: str = "application/grpc",
        **headers: str,
    ) -> Decision:
        """Ask as the edge asks. Header names are given with underscores for dashes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type:
            sent["x-original-content-type"] = content_type  # as the edge tells it
        answer = await self.web.request(method, f"http://auth/{audience}{path}", headers=sent)
        return Decision(answer.status_code, answer.headers, answer.content)

    async def as_person(self, who: Person, path: str = f"{AUTH}/GetMe", **asked: str) -> Decision:
        """Ask with the person's bearer token."""
        return await self.check(path, authorization=f"Bearer {who.access_token}", **asked)

    async def call(
        self, method: str, request: Message, kind: type[Message], metadata: Mapping[str, str] | None = None
    ) -> tuple[Any, list[tuple[str, str]]]:
        """(answer, initial metadata) of a call on the service's own socket."""
        call = self.channel.unary_unary(
            f"{AUTH}/{method}" if "/" not in method else method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=kind.FromString,
        )(request, metadata=tuple((metadata or {}).items()))
        answer = await call
        return answer, [(key, str(value)) for key, value in await call.initial_metadata()]

    async def me(self, who: Person) -> pb.GetMeResponse:
        """GetMe as the edge would forward it."""
        allowed = await self.as_person(who)
        answer, _ = await self.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse, {"x-user-token": allowed.user_token})
        assert isinstance(answer, pb.GetMeResponse)
        return answer

    async def sign_out(self, who: Person) -> None:
        """SignOut as the edge would forward it."""
        allowed = await self.as_person(who, f"{AUTH}/SignOut")
        await self.call("SignOut", pb.SignOutRequest(), pb.SignOutResponse, {"x-user-token": allowed.user_token})

    async def refresh(self, token: str) -> pb.Session:
        """RefreshSession with the token in the body."""
        request = pb.RefreshSessionRequest(refresh_token=token)
        answer, _ = await self.call("RefreshSession", request, pb.RefreshSessionResponse)
        assert isinstance(answer, pb.RefreshSessionResponse)
        return answer.session

    async def as_service(self, name: str, method: str, request: Message, kind: type[Message]) -> Any:
        """A TokenService call with the service's own token."""
        token = mint_service_token(name, keys(f"service/{name}"), clock.now())
        answer, _ = await self.call(f"{TOKEN}/{method}", request, kind, {"x-service-token": token})
        return answer

    async def close(self) -> None:
        """Stop it."""
        await self.web.aclose()
        await self.channel.close(None)
        await self.app.shutdown(notice=False)


@dataclass(slots=True)
class World:
    """The database, the mail catcher, and one replica that is always there."""

    database: TestDatabase
    directory: Path
    mail_dir: Path
    smtp_port: int
    clock: Clock = field(default_factory=Clock)
    replicas: int = 0
    main: Replica | None = None

    @property
    def one(self) -> Replica:
        """The replica that is always there."""
        assert self.main is not None
        return self.main

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Look at, or arrange, rows as a superuser."""
        with self.database.admin() as connection:
            done = connection.execute(statement, values)
            return done.fetchall() if done.description else []

    async def join(self, who: str = "ada") -> Person:
        """A new person, signed in."""
        return await people.join(self.one.channel, self.mail_dir, who)

    def settings(self, **changed: object) -> dict[str, str]:
        """The environment of a replica whose secret files have been written."""
        self.replicas += 1
        name = f"a{self.replicas}"
        secrets = self.directory / f"{name}.secrets"
        secrets.mkdir()
        write_secrets(secrets)
        login = self.database.login("auth")
        values: dict[str, object] = {
            "grpc_address": f"unix:{self.directory}/{name}.grpc", "http_address": f"unix:{self.directory}/{name}.http",
            "database_host": login.database_host, "database_port": login.database_port,
            "database_name": login.database_name, "database_user": login.database_user, "database_tls": "off",
            "secrets_dir": secrets, "smtp_port": self.smtp_port, "smtp_tls": "off",
            "mail_from": "Holdfast <no-reply@example.com>", "allowed_origins": ORIGIN,
            "edge_notice_seconds": 0, "drain_seconds": 5, **changed,
        }  # fmt: skip
        return {f"HOLDFAST_{key.upper()}": str(value) for key, value in values.items()}

    @asynccontextmanager
    async def replica(self, **changed: object) -> AsyncIterator[Replica]:
        """Another replica; *changed* are fields of its Config."""
        made = await self.start(**changed)
        try:
            yield made
        finally:
            await made.close()

    async def start(self, fresh: bool = True, /, **changed: object) -> Replica:
        """A replica; when *fresh*, one whose feed has been read once."""
        config = load(Config, self.settings(**changed))
        app = build(config, now=self.clock)
        await app.start()
        web = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=config.http_address.removeprefix("unix:")), timeout=_SECONDS
        )
        replica = Replica(app, config, grpc.aio.insecure_channel(config.grpc_address), web)
        if fresh:
            await until_fresh(replica)
        return replica


def write_secrets(directory: Path, **changed: bytes) -> None:
    """The secret files of auth; *changed* replaces the content of some."""
    files = {
        "database_password": PASSWORDS["holdfast_auth"],
        "root_keys": write_keys(Keys(ROOT)),
        "cookie_keys": write_keys(COOKIE_KEYS),
        "csrf_key": CSRF_KEY,
    } | changed
    for name, content in files.items():
        (directory / name).unlink(missing_ok=True)
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(content)


async def until_fresh(replica: Replica) -> None:
    """Wait until the replica knows what has ended."""
    feed = part(replica.app, "EpochFeed")
    async with asyncio.timeout(_SECONDS):
        if feed.age_seconds() > _SECONDS:
            await feed.polled()


async def next_poll(replica: Replica) -> None:
    """Wait until the replica has read everything committed before this call."""
    feed = part(replica.app, "EpochFeed")
    async with asyncio.timeout(_SECONDS):
        await feed.polled()
        await feed.polled()


def part(app: App, name: str) -> Any:
    """The app's part of this class name."""
    return next(each for each in app.parts if type(each).__name__ == name)


def reason(error: grpc.aio.AioRpcError) -> str:
    """The ErrorInfo's reason of a refused call."""
    trailers: Any = error.trailing_metadata() or ()
    found = dict(trailers).get("grpc-status-details-bin", b"")
    return reason_of(found) if found else ""


def reason_of(details: bytes) -> str:
    """The ErrorInfo's reason in a serialized google.rpc.Status."""
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


@asynccontextmanager
async def refused(code: grpc.StatusCode, why: str) -> AsyncIterator[None]:
    """The block's call is refused with this code and reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert (caught.value.code(), reason(caught.value)) == (code, why), caught.value.details()


def unbase64(text: str) -> bytes:
    """The bytes of base64, padded or not."""
    return base64.b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture(scope="session")
def auth_mail() -> Iterator[tuple[Path, int]]:
    """(directory of the mails, port) of the stack's own mail catcher."""
    directory = Path(tempfile.mkdtemp(prefix="hfm-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = subprocess.Popen([tool("python"), _CATCHER, str(directory), str(port)])
    try:
        _await_greeting(port)
        yield directory, port
    finally:
        server.terminate()
        server.wait(_SECONDS)
        shutil.rmtree(directory)


def _await_greeting(port: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                assert connection.recv(4).startswith(b"220")
                return
        except OSError:
            assert time.monotonic() < deadline, "the mail catcher does not answer"


@pytest.fixture(scope="module")
async def auth(database: TestDatabase, auth_mail: tuple[Path, int]) -> AsyncIterator[World]:
    """This module's auth service. A machine that stalls for a second is no fault of its checks."""
    directory = Path(tempfile.mkdtemp(prefix="hfa-", dir="/tmp"))
    made = World(database, directory, *auth_mail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "_READ_SECONDS", 4.0)
        made.main = await made.start()
        try:
            yield made
        finally:
            await made.main.close()
            shutil.rmtree(directory)
