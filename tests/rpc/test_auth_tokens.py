"""TokenService: exchange and liveness, for Holdfast's own services."""

import grpc
import pytest
from google.protobuf.message import Message

from holdfast.auth.v1 import auth_service_pb2
from holdfast.auth.v1 import token_service_pb2 as pb
from holdfast.usertoken import Key, Keys, Verifier, derive, mint_service_token
from libs import clock
from tests.support import people
from tests.support.auth import TOKEN, World, refused
from tests.support.people import Person
from tests.support.tokens import ROOT, keys, user_token

DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
EXCHANGE = f"{TOKEN}/ExchangeToken"


async def exchange(auth: World, caller: str, who: Person, audience: str) -> pb.ExchangeTokenResponse:
    request = pb.ExchangeTokenRequest(user=who.name, audience=audience)
    answer = await auth.one.as_service(caller, "ExchangeToken", request, pb.ExchangeTokenResponse)
    assert isinstance(answer, pb.ExchangeTokenResponse)
    return answer


@pytest.mark.control("T3", "an exchanged token names the acting service")
async def test_a_service_gets_a_token_that_says_for_whom_and_who_acts(auth: World) -> None:
    ada = await auth.join()
    answer = await exchange(auth, "files", ada, "events")
    claims = Verifier("events", lambda: keys("events")).verify(answer.user_token, clock.now())
    assert (claims.user_id, claims.organization_id, claims.session_id) == (ada.user_id, ada.organization_id, "")
    assert (claims.actor, claims.role, claims.scopes) == ("files", "OWNER", frozenset())
    assert answer.expire_time.seconds == claims.expires_at <= clock.now().timestamp() + 60
    entries = auth.sql(
        "SELECT facts, on_behalf FROM audit.entries WHERE action = 'token.exchanged' AND actor_id = %s", ada.user_id
    )
    assert entries == [({"service": "files", "audience": "events"}, "files")]


@pytest.mark.control("T3", "only listed pairs of caller and audience may exchange")
@pytest.mark.parametrize(
    ("caller", "audience"), [("files", "auth"), ("files", "backup"), ("events", "events"), ("backup", "auth")]
)
async def test_a_pair_that_is_not_listed_is_refused(auth: World, caller: str, audience: str) -> None:
    ada = await auth.join()
    async with refused(DENIED, "EXCHANGE_NOT_ALLOWED"):
        await exchange(auth, caller, ada, audience)
    await exchange(auth, "backup", ada, "files")


@pytest.mark.control("T3", "a disabled user is refused")
async def test_a_disabled_or_unknown_user_is_refused(auth: World) -> None:
    ada, bo = await auth.join(), await auth.join("bo")
    await exchange(auth, "files", ada, "events")
    auth.sql("UPDATE auth.users SET disabled_at = now() WHERE id = %s", ada.user_id)
    crossed = Person("", "", organization_id=ada.organization_id, user_id=bo.user_id)
    for who in (ada, crossed, Person("", "", organization_id="0" * 26, user_id="0" * 26)):
        async with refused(grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND"):
            await exchange(auth, "files", who, "events")


@pytest.mark.control("T1", "a service token is believed by auth alone, and only its maker's name")
async def test_only_a_genuine_service_token_is_believed(auth: World) -> None:
    ada = await auth.join()
    request = pb.ExchangeTokenRequest(user=ada.name, audience="events")
    now = clock.now()
    files = keys("service/files")
    stranger = Keys(Key(ROOT.kid, derive(b"another root altogether, 32 bytes!", ROOT.kid, "service/files")))
    bad: dict[str, dict[str, str]] = {
        "another root": {"x-service-token": mint_service_token("files", stranger, now)},
        "another service's key": {"x-service-token": mint_service_token("backup", files, now)},
        "no service": {"x-service-token": mint_service_token("browser", keys("service/browser"), now)},
        "auth itself": {"x-service-token": mint_service_token("auth", keys("service/auth"), now)},
        "another audience": {"x-service-token": mint_service_token("files", files, now, audience="events")},
        "a user token": {"x-service-token": user_token("auth", organization=ada.organization_id, user=ada.user_id)},
        "a user token in its own header": {"x-user-token": user_token("auth")},
        "an access handle": {"x-service-token": ada.access_token},
        "nothing": {},
    }
    for metadata in bad.values():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await auth.one.call(EXCHANGE, request, pb.ExchangeTokenResponse, metadata)
        assert caught.value.code() is UNAUTHENTICATED
    await exchange(auth, "files", ada, "events")


@pytest.mark.control("T1", "a forged, expired or foreign user token is refused on every shape")
@pytest.mark.parametrize("method", ["GetMe", "SignOut"])
async def test_auth_itself_believes_only_its_own_audience(auth: World, method: str) -> None:
    ada = await auth.join()
    request: Message = getattr(auth_service_pb2, f"{method}Request")()
    kind: type[Message] = getattr(auth_service_pb2, f"{method}Response")
    files = (await auth.one.as_person(ada, "/holdfast.files.v1.FileService/ListFiles", audience="files")).user_token
    for token in (files, ada.access_token, user_token("files", user=ada.user_id, organization=ada.organization_id)):
        async with refused(UNAUTHENTICATED, "INVALID_USER_TOKEN"):
            await auth.one.call(method, request, kind, {"x-user-token": token})
    async with refused(UNAUTHENTICATED, "UNAUTHENTICATED"):
        await auth.one.call(method, request, kind)
    assert (await auth.one.me(ada)).user.email == ada.email


async def check(auth: World, *people_: Person) -> set[str]:
    refs = [
        pb.SessionRef(organization_id=who.organization_id, user_id=who.user_id, session_id=who.session_id)
        for who in people_
    ]
    request = pb.CheckSessionsRequest(sessions=refs)
    answer = await auth.one.as_service("events", "CheckSessions", request, pb.CheckSessionsResponse)
    return set(answer.ended_session_ids)


@pytest.mark.control("S4", "streams learn in one batch which sessions have ended")
async def test_check_sessions_names_exactly_those_that_are_over(auth: World) -> None:
    ada, bo, cy = await auth.join(), await auth.join("bo"), await auth.join("cy")
    assert await check(auth, ada, bo, cy) == set()
    await auth.one.sign_out(ada)
    auth.sql("UPDATE auth.users SET epoch = epoch + 1 WHERE id = %s", bo.user_id)
    unknown = Person("", "", cy.organization_id, cy.user_id, "0" * 26)
    crossed = Person("", "", bo.organization_id, cy.user_id, cy.session_id)
    assert await check(auth, ada, bo, cy) == {ada.session_id, bo.session_id}
    assert await check(auth, unknown, crossed) == {unknown.session_id, cy.session_id}
    assert await check(auth, cy) == set()


async def test_ten_thousand_sessions_are_checked_in_one_call(auth: World) -> None:
    ada = await auth.join()
    refs = [pb.SessionRef(organization_id="o", user_id="u", session_id=f"s{n}") for n in range(9_999)]
    mine = pb.SessionRef(organization_id=ada.organization_id, user_id=ada.user_id, session_id=ada.session_id)
    request = pb.CheckSessionsRequest(sessions=[*refs, mine])
    answer = await auth.one.as_service("events", "CheckSessions", request, pb.CheckSessionsResponse)
    assert len(answer.ended_session_ids) == 9_999
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
        await auth.one.as_service(
            "events", "CheckSessions", pb.CheckSessionsRequest(sessions=[*refs, mine, mine]), pb.CheckSessionsResponse
        )


async def test_auth_recovers_from_a_lost_database_without_a_restart(auth: World) -> None:
    ada = await auth.join()
    assert (await auth.one.me(ada)).user.email == ada.email
    auth.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'holdfast_auth'")
    assert (await auth.one.me(ada)).user.email == ada.email
    await people.sign_in(auth.one.channel, ada)
