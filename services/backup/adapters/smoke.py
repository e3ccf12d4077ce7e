"""The application smoke: one sign-in, one download and one event of the canary, through the real services on a copy.

What a copy's tables hold is judged before; this asks whether a restore would serve. As at the edge, auth exchanges the
session for a token of each audience, and files and events are called with that. Nothing is written but to the copy.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc

from holdfast.auth.v1 import auth_service_pb2 as auth
from holdfast.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from holdfast.events.v1 import event_service_pb2 as events
from holdfast.events.v1.event_service_pb2_grpc import EventServiceStub
from holdfast.files.v1 import file_service_pb2 as files
from holdfast.files.v1.file_service_pb2_grpc import FileServiceStub
from services.backup.adapters.canary import Canary, NoCanary, load
from services.backup.adapters.copy import Copy
from services.backup.adapters.objects import Store
from services.backup.adapters.rung import rung
from services.backup.adapters.standin import SERVICES, StandIn, Troupe
from services.backup.domain.drill import Check, not_made
from services.backup.domain.errors import EngineFailed

SIGN_IN, DOWNLOAD, EVENT = CHECKS = ("sign_in", "download", "event")
_CALL_SECONDS = 30.0
_CLAIMED = "SELECT count(*) FROM jobs.jobs WHERE claimed_at > pg_postmaster_start_time()"


@dataclass(frozen=True, slots=True)
class Smoke:
    """canary: the file that describes it. seconds: for each service to be well in. secrets, canary: None for none."""

    secrets: Path | None = None
    canary: Path | None = None
    seconds: float = 60.0

    def canary_of(self, newest: datetime | None) -> Canary:
        """The canary, when a copy whose newest heartbeat is *newest* has to hold it. Raises NoCanary."""
        if self.secrets is None or self.canary is None:
            raise NoCanary("this service is not told where the canary and the services' secrets are")
        found = load(self.canary)
        if newest is None or newest < found.made_at:
            raise NoCanary(f"the copy is of a moment before the canary was made ({found.made_at:%Y-%m-%d %H:%M:%S}Z)")
        return found


NOWHERE = Smoke()


def none(why: str) -> list[Check]:
    """The three checks, not made."""
    return [not_made(name, why) for name in CHECKS]


async def smoke(copy: Copy, told: Smoke, store: Store, database: str, newest: datetime | None) -> list[Check]:
    """The three checks of *copy*, whose newest heartbeat is of *newest*. Raises EngineFailed when a service stays."""
    try:
        canary = told.canary_of(newest)
    except NoCanary as why:
        return none(str(why))
    assert told.secrets is not None  # canary_of refuses without
    return await Players(copy, Troupe(told.secrets, store, database, told.seconds), canary).checks()


class Players:
    """The services on one copy, and what the canary asks of them."""

    def __init__(self, copy: Copy, troupe: Troupe, canary: Canary) -> None:
        self._copy = copy
        self._canary = canary
        store = troupe.store
        pairs = (store.access_key, store.secret_key, store.keys_access_key, store.keys_secret_key)
        stored = bool(store.endpoint) and all(pairs)
        called = [name for name in SERVICES if stored or name != "files"]
        self._cast = {name: StandIn(name, troupe, copy.place) for name in called}
        self._session = ""

    async def checks(self) -> list[Check]:
        """Each check with its time; the services are gone when this returns. Raises EngineFailed when one is not."""
        deeds = {SIGN_IN: self._sign_in, DOWNLOAD: self._download, EVENT: self._event}
        async with AsyncExitStack() as opened:
            for one in self._cast.values():
                opened.push_async_callback(one.stop)
            try:
                for one in self._cast.values():
                    await one.start()
            except EngineFailed as fault:
                return none(fault.message)
            found = [await rung(name, _answered(name, deed)) for name, deed in deeds.items()]
        claimed = (await self._copy.ask(_CLAIMED))[0][0]
        if claimed:
            raise EngineFailed(f"The services claimed {claimed} jobs in the copy.", command="smoke")
        return found

    async def _sign_in(self) -> Check:
        service = self._cast["auth"]
        await service.serving()
        asked = auth.SignInRequest(
            email=self._canary.email, password=self._canary.password, delivery=auth.DELIVERY_TOKENS
        )
        async with _channel(service) as channel:
            answer = await AuthServiceStub(channel).SignIn(asked, timeout=_CALL_SECONDS)
        if answer.user.name != self._canary.user or not answer.session.access_token:
            return Check(SIGN_IN, False, 1, "the canary signed in and is somebody else")
        self._session = answer.session.access_token
        return Check(SIGN_IN, True, 1, "the canary signed in with its password")

    async def _download(self) -> Check:
        service = self._cast.get("files")
        if service is None:
            return not_made(DOWNLOAD, "no identity that may read the object store is configured for drills")
        await service.serving()
        token = await self._token("files", "/holdfast.files.v1.FileService/DownloadFile")
        digest, size = hashlib.sha256(), 0
        async with _channel(service) as channel:
            asked = files.DownloadFileRequest(name=self._canary.file)
            async for part in FileServiceStub(channel).DownloadFile(asked, metadata=token, timeout=_CALL_SECONDS):
                digest.update(part.data)
                size += len(part.data)
        same = digest.hexdigest() == self._canary.sha256
        bad = f"the canary's file came as {size} other bytes than were stored"
        return Check(
            DOWNLOAD, same, 1, f"the canary's file came back, {size} bytes as they were stored" if same else bad
        )

    async def _event(self) -> Check:
        service = self._cast["events"]
        await service.serving()
        token = await self._token("events", "/holdfast.events.v1.EventService/Subscribe")
        asked = events.SubscribeRequest(parent=self._canary.user, resume_token="earliest")
        async with _channel(service) as channel:
            stream = EventServiceStub(channel).Subscribe(asked, metadata=token, timeout=_CALL_SECONDS)
            async for answer in stream:
                if answer.WhichOneof("kind") == "event":
                    first = answer.event
                    stream.cancel()
                    break
                if answer.WhichOneof("kind") in ("reset", "goodbye"):
                    return Check(EVENT, False, 1, f"the canary's stream began with {answer.WhichOneof('kind')}")
            else:
                return Check(EVENT, False, 0, "the canary's stream ended without its first event")
        right = first.type == self._canary.event
        told = f"the canary's stream begins with {first.type}, offset {first.offset}"
        return Check(EVENT, right, 1, told if right else f"{told}, and not with {self._canary.event}")

    async def _token(self, audience: str, method: str) -> tuple[tuple[str, str], ...]:
        """What the edge would add to a call of *method*: auth's own answer for this session."""
        if not self._session:
            raise EngineFailed("The canary could not sign in, so it has no session.", command="smoke")
        auth_ = self._cast["auth"]
        lines = (f"POST /{audience}{method} HTTP/1.1", "host: auth", "content-type: application/grpc",
                 f"authorization: Bearer {self._session}", "content-length: 0", "connection: close",
                 "", "")  # fmt: skip
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(auth_.socket("http")))
                writer.write("\r\n".join(lines).encode())
                head = await reader.readuntil(b"\r\n\r\n")
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as fault:
            raise auth_.failed(f"did not answer for {audience} ({type(fault).__name__})") from None
        status, *headers = head.decode("latin-1").split("\r\n")
        for name, _, value in (header.partition(":") for header in headers):
            if status.split()[1] == "200" and name.strip().lower() == "x-user-token":
                return (("x-user-token", value.strip()),)
        raise EngineFailed(f"auth refused the canary's session for {audience}: {status}", command="smoke")


def _channel(service: StandIn) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"unix:{service.socket('grpc')}", options=[("grpc.use_local_subchannel_pool", 1)])


def _answered(name: str, deed: Callable[[], Awaitable[Check]]) -> Callable[[], Awaitable[Check]]:
    """*deed*, where a call that is refused has failed: a refusal is an answer, and the wrong one."""

    async def ask() -> Check:
        try:
            return await deed()
        except grpc.aio.AioRpcError as error:
            return Check(name, False, 0, f"{error.code().name}: {error.details()}")

    return ask
