"""The auth stage: who may call what, and what is never believed."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from holdfast.auth.v1 import token_service_pb2 as token_pb
from holdfast.auth.v1.token_service_pb2_grpc import (
    TokenServiceServicer,
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)
from holdfast.usertoken import Keys, ServiceVerifier, Verifier, mint_service_token
from libs.clock import now
from libs.errors import AppError
from libs.observability.metric import Metrics
from libs.principal import Operator, System, User
from libs.rpc import policy
from libs.rpc.auth import Authenticator
from libs.rpc.call import Call
from libs.rpc.health import Health
from libs.rpc.policy import Access, Effect, Policy, UndeclaredPolicy
from libs.rpc.server import Context, Server, principal
from tests.support import tokens
from tests.support.wire import refused, serving, signed, told


def _unsigned() -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = json.loads(base64.urlsafe_b64decode(tokens.user_token("files").split(".")[1] + "=="))
    return f"{part({'alg': 'none', 'typ': 'holdfast-user+jwt', 'kid': 'test-1'})}.{part(claims)}."


TOKEN = "x-user-token"
FORGED: dict[str, Callable[[], list[tuple[str, str | bytes]]]] = {
    "twice": lambda: [signed(), signed()],
    "comma-joined": lambda: [(TOKEN, f"{tokens.user_token('files')},{tokens.user_token('files')}")],
    "empty": lambda: [(TOKEN, "")],
    "beside a binary twin": lambda: [signed(), (f"{TOKEN}-bin", b"x")],
    "a binary twin alone": lambda: [(f"{TOKEN}-bin", tokens.user_token("files").encode())],
    "another audience": lambda: [(TOKEN, tokens.user_token("events"))],
    "another audience under our key": lambda: [(TOKEN, tokens.user_token("events", key=tokens.keys("files").current))],
    "another type": lambda: [signed(typ="holdfast-service+jwt")],
    "no algorithm": lambda: [(TOKEN, _unsigned())],
    "expired": lambda: [signed(now=now() - timedelta(seconds=120))],
    "from the future": lambda: [signed(now=now() + timedelta(seconds=60))],
    "too long a life": lambda: [signed(lifetime_seconds=61)],
    "another issuer": lambda: [signed(iss="somebody")],
    "no user": lambda: [signed(sub=None)],
    "garbage": lambda: [(TOKEN, "a.b.c")],
}


@pytest.mark.control("T1", "a forged, expired or foreign user token is refused on every shape")
@pytest.mark.control("T1", "the algorithm, the type and the lifetime are fixed in code")
@pytest.mark.control("T2", "the service accepts exactly one value")
@pytest.mark.parametrize("how", FORGED)
async def test_a_forged_token_is_refused(how: str) -> None:
    async with serving() as wire:
        with refused("UNAUTHENTICATED", "INVALID_USER_TOKEN"):
            await wire.get(*FORGED[how]())  # minted now: later each of them would be expired as well
        assert wire.servicer.principals == []
        await wire.get(signed())
        assert len(wire.servicer.principals) == 1


@pytest.mark.control("T1", "services use only the embedded user id")
async def test_the_principal_is_what_the_token_says_and_nothing_else() -> None:
    async with serving() as wire:
        await wire.get(signed(user="u7", organization="o7", role="ADMIN", scope="a b", act={"sub": "events"}))
        expected = User("o7", "u7", "session1", "ADMIN", frozenset({"a", "b"}), "events")
        assert wire.servicer.principals == [expected]


def _authenticator(**named: Any) -> Authenticator:
    keys = tokens.keys("files")
    arguments: dict[str, Any] = {
        "verifier": Verifier("files", lambda: keys), "service_verifier": None, "operator": "", "now": now,
        "refused": lambda why: None,
    }  # fmt: skip
    return Authenticator(**(arguments | named))


class _Headers:
    """A context that has nothing but metadata."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


async def _let_in(access: Access, *metadata: tuple[str, str | bytes], **named: Any) -> Call | str:
    """The call that was let in, or the reason it was not."""
    declared = Policy(access, Effect.READ)
    context: Any = _Headers(*metadata)
    call = Call("/x/Y", declared, context, asyncio.Event(), b"")
    try:
        _authenticator(**named).check(declared)(call)
    except AppError as refusal:
        return refusal.reason
    return call


ROLES = {
    Access.USER: {"MEMBER": True, "ADMIN": True, "OWNER": True, "GUEST": False},
    Access.ORG_ADMIN: {"MEMBER": False, "ADMIN": True, "OWNER": True, "GUEST": False},
    Access.ORG_OWNER: {"MEMBER": False, "ADMIN": False, "OWNER": True, "GUEST": False},
}


@pytest.mark.control("T10", "the role a method asks for is enforced")
@pytest.mark.parametrize(("access", "role"), [(access, role) for access, roles in ROLES.items() for role in roles])
async def test_a_role_opens_what_the_table_says(access: Access, role: str) -> None:
    found = await _let_in(access, signed(role=role))
    assert isinstance(found, Call) if ROLES[access][role] else found == "ACCESS_DENIED"


async def test_anyone_may_call_a_public_method_but_not_with_a_bad_token() -> None:
    nobody = await _let_in(Access.PUBLIC)
    assert isinstance(nobody, Call)
    assert nobody.principal is None
    somebody = await _let_in(Access.PUBLIC, signed())
    assert isinstance(somebody, Call)
    assert somebody.user is not None
    assert await _let_in(Access.PUBLIC, signed(iss="somebody")) == "INVALID_USER_TOKEN"


async def test_an_operator_is_one_by_scope_or_by_socket() -> None:
    assert await _let_in(Access.OPERATOR, signed(role="OWNER")) == "ACCESS_DENIED"
    assert await _let_in(Access.OPERATOR) == "UNAUTHENTICATED"
    remote = await _let_in(Access.OPERATOR, signed(user="u9", scope="operator"))
    assert isinstance(remote, Call)
    assert remote.principal == Operator("u9")
    local = await _let_in(Access.OPERATOR, verifier=None, operator="uid:1000")
    assert isinstance(local, Call)
    assert local.principal == Operator("uid:1000")


class _Tokens(TokenServiceServicer):
    def __init__(self) -> None:
        self.callers: list[object] = []

    async def CheckSessions(
        self, request: token_pb.CheckSessionsRequest, context: Context
    ) -> token_pb.CheckSessionsResponse:
        self.callers.append(principal(context))
        return token_pb.CheckSessionsResponse()


@pytest.mark.control("T1", "a service token is believed by auth alone, and only its maker's name")
async def test_a_service_calls_as_itself_and_as_nobody_else() -> None:
    known: dict[str, Keys] = {name: tokens.keys(f"service/{name}") for name in ("files", "events")}
    servicer = _Tokens()  # type: ignore[abstract]  # ExchangeToken is not asked for
    user_keys = tokens.keys("auth")
    served = (
        add_TokenServiceServicer_to_server, servicer, token_pb.DESCRIPTOR.services_by_name["TokenService"],
    )  # fmt: skip
    server = Server(
        "127.0.0.1:0", [served], service="auth", verifier=Verifier("auth", lambda: user_keys), health=Health(),
        metrics=Metrics(), service_verifier=ServiceVerifier("auth", known.get),
    )  # fmt: skip
    await server.start()
    ref = token_pb.SessionRef(organization_id="o", user_id="u", session_id="s")
    asked = token_pb.CheckSessionsRequest(sessions=[ref])
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub: Any = TokenServiceStub(channel)

            async def ask(*metadata: tuple[str, str]) -> None:
                await told(stub.CheckSessions(asked, metadata=metadata))

            await ask(("x-service-token", mint_service_token("files", known["files"], now())))
            assert servicer.callers == [System("files")]
            with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
                await ask(("x-user-token", tokens.user_token("auth")))
            for forged in (
                mint_service_token("files", known["events"], now()),
                mint_service_token("backup", known["files"], now()),
                mint_service_token("files", known["files"], now(), audience="events"),
                tokens.user_token("auth"),
            ):
                with refused("UNAUTHENTICATED", "INVALID_USER_TOKEN"):
                    await ask(("x-service-token", forged))
            assert len(servicer.callers) == 1
    finally:
        await server.stop()


@pytest.mark.control("T10", "an undeclared method refuses to start")
async def test_what_cannot_be_checked_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UndeclaredPolicy, match="needs a user"):
        async with serving(verifier=None):
            pass
    whole = policy.all_methods()
    method = "/holdfast.files.v1.FileService/GetFile"
    monkeypatch.setattr("libs.rpc.server.all_methods", lambda: {n: p for n, p in whole.items() if n != method})
    with pytest.raises(UndeclaredPolicy, match="GetFile is not in the contract"):
        async with serving():
            pass
