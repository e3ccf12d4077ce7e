"""The events service in this process on a real database, and readers that speak plain sockets and gRPC to it."""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from holdfast.events.v1 import event_service_pb2 as pb
from holdfast.events.v1 import event_service_pb2_grpc
from holdfast.usertoken.keys import write_keys
from libs import eventlog, ids
from libs.config import load
from libs.db import Database
from libs.errors import Unavailable
from libs.principal import User
from libs.process import App
from libs.rpc.channel import channel
from services.events.app import build
from services.events.config import Config
from services.events.domain.session import SessionRef
from tests.support.postgres import PASSWORDS, TestDatabase
from tests.support.tokens import keys, user_token

SECONDS = 15.0
"""How long a test waits for what has to happen; nothing is ever expected to take it."""


class SessionBook:
    """Stands in for auth: says which sessions have ended, or that nobody can say. The real one is AuthSessions."""

    def __init__(self) -> None:
        self.over: set[str] = set()
        self.away = False
        self.asked: list[Sequence[SessionRef]] = []

    async def ended(self, sessions: Sequence[SessionRef]) -> set[str]:
        self.asked.append(sessions)
        if self.away:
            raise Unavailable("away")
        return {each.session_id for each in sessions} & self.over


@dataclass(frozen=True, slots=True)
class Block:
    """One server-sent event as a browser would parse it; event is "" for a block that dispatches nothing."""

    id: str
    event: str
    data: Any
    comments: tuple[str, ...]
    retry: str


class Reader:
    """One connection to /v1/events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def open(self) -> None:
        async with asyncio.timeout(SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if "content-length" in self.headers:
            self.body = await self._reader.readexactly(int(self.headers["content-length"]))

    async def block(self) -> Block | None:
        """The next block of any kind; None at the end of the answer or of the connection."""
        async with asyncio.timeout(SECONDS):
            while b"\n\n" not in self.body:
                chunk = await self._chunk()
                if not chunk:
                    return None
                self.body += chunk
        raw, self.body = self.body.split(b"\n\n", 1)
        return parse(raw.decode())

    async def event(self) -> Block:
        """The next block that a browser would dispatch. Raises EOFError when the stream ends first."""
        while True:
            found = await self.block()
            if found is None:
                raise EOFError("the stream has ended")
            if found.event:
                return found

    async def events(self, count: int) -> list[Block]:
        return [await self.event() for _ in range(count)]

    async def ended(self) -> list[Block]:
        """Everything up to the end of the stream."""
        found = []
        while (block := await self.block()) is not None:
            found.append(block)
        return found

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _chunk(self) -> bytes:
        if "content-length" in self.headers:
            return b""
        try:
            size = int((await self._reader.readuntil(b"\r\n")).strip(), 16)
            data = await self._reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        return data[:-2]


def parse(raw: str) -> Block:
    """A block's lines as fields. Source: WHATWG HTML, Interpreting an event stream."""
    fields: dict[str, list[str]] = {}
    for line in raw.split("\n"):
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    data = "\n".join(fields["data"]) if "data" in fields else ""
    last = {name: values[-1] for name, values in fields.items()}
    return Block(
        last.get("id", ""), last.get("event", ""), json.loads(data) if data else None, tuple(fields.get("", ())),
        last.get("retry", ""),
    )  # fmt: skip


@dataclass(slots=True)
class Replica:
    """One running process's worth of the service."""

    app: App
    config: Config
    sessions: SessionBook
    _channels: list[grpc.aio.Channel] = field(default_factory=list)
    _readers: list[Reader] = field(default_factory=list)

    def part(self, kind: type[Any]) -> Any:
        return next(part for part in self.app.parts if isinstance(part, kind))

    async def connect(self, headers: Sequence[tuple[str, str]], query: str = "", *, method: str = "GET") -> Reader:
        path = self.config.http_address.removeprefix("unix:")
        made = Reader(*await asyncio.open_unix_connection(path, limit=2**16))
        lines = [f"{method} /v1/events{query} HTTP/1.1", "host: test", *(f"{name}: {value}" for name, value in headers)]
        made._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._readers.append(made)
        await made.open()
        return made

    async def follow(self, who: User, resume: str = "", *, by_query: bool = False) -> Reader:
        """A stream of *who*'s events, its first block (nothing to dispatch, or a reset or refusal) still to be read."""
        headers = [("x-user-token", token(who))]
        if resume and not by_query:
            headers.append(("last-event-id", resume))
        return await self.connect(headers, f"?last_event_id={resume}" if by_query else "")

    async def opened(self, who: User, resume: str = "") -> tuple[Reader, str]:
        """Like follow, the opening heartbeat read; and the resume token it told."""
        made = await self.follow(who, resume)
        first = await made.block()
        assert first is not None
        assert first.event == ""
        return made, first.id

    def stub(self, who: User) -> "event_service_pb2_grpc.EventServiceAsyncStub":
        async def tokens() -> str:
            return token(who)

        self._channels.append(channel(self.config.grpc_address, tokens=tokens))
        made: event_service_pb2_grpc.EventServiceAsyncStub = event_service_pb2_grpc.EventServiceStub(self._channels[-1])
        return made

    async def stop(self) -> None:
        for each in self._channels:
            await each.close(None)
        await self.app.shutdown()
        for reader in self._readers:
            await reader.close()


def token(who: User, **bent: Any) -> str:
    """A user token as the edge would put on *who*'s calls."""
    return user_token(
        "events", user=who.user_id, organization=who.organization_id, **{"sid": who.session_id, **bent}
    )  # fmt: skip


def parent(who: User) -> str:
    return f"organizations/{who.organization_id}/users/{who.user_id}"


@dataclass(slots=True)
class World:
    """One module's database with people in it, and the replicas that serve it."""

    database: TestDatabase
    directory: Path
    made: int = 0

    def user(self, organization: str = "") -> User:
        """A new user with a session, in *organization* or in a new one."""
        who = User(organization or ids.new_id(), ids.new_id(), ids.new_id())
        with self.database.admin() as connection:
            connection.execute(
                "INSERT INTO auth.organizations (id, display_name) VALUES (%s, 'x') ON CONFLICT DO NOTHING",
                [who.organization_id],
            )
            account = ids.new_id()
            connection.execute(
                "INSERT INTO auth.accounts (id, email, email_key, display_name, password_hash)"
                " VALUES (%s, %s, %s, 'x', 'x')",
                [account, f"{account}@example.com", account],
            )
            connection.execute(
                "INSERT INTO auth.users (organization_id, id, account_id, role, display_name)"
                " VALUES (%s, %s, %s, 'MEMBER', 'x')",
                [who.organization_id, who.user_id, account],
            )
        return who

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """As superuser: for arranging, and for looking at rows."""
        with self.database.admin() as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    async def append(self, who: User, count: int = 1) -> list[int]:
        """Events {"n": 1}, {"n": 2}, … as the files service would append them, each in its own transaction."""
        return [await append(self.files, who, {"n": number + 1}) for number in range(count)]

    def append_silently(self, who: User) -> None:
        """One event of which no wake-up tells."""
        with self.database.admin() as connection:
            connection.execute(
                "SELECT set_config('holdfast.organization_id', %s, false), set_config('holdfast.user_id', %s, false)",
                [who.organization_id, who.user_id],
            )
            connection.execute("SELECT events.append(%s, %s, 'sample.told', '{}')", [who.organization_id, who.user_id])

    @property
    def files(self) -> Database:
        """The files service's login."""
        return self.database.opened[0] if self.database.opened else self.database.connect("files")

    @asynccontextmanager
    async def replica(self, **settings: object) -> AsyncIterator[Replica]:
        """A running replica; *settings* are fields of its Config."""
        self.made += 1
        sessions = SessionBook()
        config = load(Config, self.environment(f"r{self.made}", settings))
        made = Replica(build(config, sessions=sessions), config, sessions)
        await made.app.start()
        try:
            yield made
        finally:
            await made.stop()

    def environment(self, name: str, settings: dict[str, object]) -> dict[str, str]:
        """The settings of the replica *name* as its process would find them, its secrets written."""
        secrets = self.directory / f"{name}.secrets"
        secrets.mkdir()
        files = {
            "database_password": PASSWORDS["holdfast_events"],
            "user_token_keys": write_keys(keys("events")),
            "service_credential": write_keys(keys("service/events")),
        }
        for file, content in files.items():
            (secrets / file).touch(mode=0o600)
            (secrets / file).write_bytes(content)
        login = self.database.login("events")
        values: dict[str, object] = {
            "grpc_address": f"unix:{self.directory}/{name}.grpc", "http_address": f"unix:{self.directory}/{name}.http",
            "database_host": login.database_host, "database_port": login.database_port,
            "database_name": login.database_name, "database_user": login.database_user,
            "secrets_dir": secrets, "auth_address": f"unix:{self.directory}/auth.grpc",
            "edge_notice_seconds": 0, "drain_seconds": 5, **settings,
        }  # fmt: skip
        return {f"HOLDFAST_{key.upper()}": str(value) for key, value in values.items()}


async def append(database: Database, who: User, data: dict[str, Any], *, type: str = "sample.told") -> int:
    """One event in a transaction of its own."""
    async with database.begin(who) as tx:
        return await eventlog.append(
            tx, organization_id=who.organization_id, user_id=who.user_id, type=type, data=data
        )  # fmt: skip


async def until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*, which something else makes true."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - rows in the database signal nothing
            await asyncio.sleep(0.005)


async def to_the_end(call: Any) -> tuple[list[pb.SubscribeResponse], grpc.StatusCode]:
    """Everything a server stream still says, and the code it ends with."""
    said: list[pb.SubscribeResponse] = []
    async with asyncio.timeout(SECONDS):
        try:
            async for message in call:
                said.append(message)  # noqa: PERF401 - what came before the error counts
        except grpc.aio.AioRpcError as error:
            return said, error.code()
    return said, grpc.StatusCode.OK


@pytest.fixture(scope="module")
async def world(database: TestDatabase) -> AsyncIterator[World]:
    """This module's people, database and directory for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="hfe-", dir="/tmp"))
    yield World(database, directory)
    await database.close()
    database.opened.clear()
    shutil.rmtree(directory)
