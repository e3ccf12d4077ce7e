"""Registration, sign-in and sign-out, as a client lives them."""

import asyncio
from datetime import timedelta

import grpc
import pytest

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from tests.support import people
from tests.support.auth import World, refused

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def test_a_person_registers_verifies_signs_in_and_is_known(auth: World) -> None:
    ada = await auth.join()
    me = await auth.one.me(ada)
    assert (me.user.email, me.user.name, me.user.role) == (ada.email, ada.name, pb.ROLE_OWNER)
    assert me.session.name.endswith(ada.session_id)
    assert me.session.csrf_token
    assert not me.session.access_token
    assert not me.session.refresh_token


@pytest.mark.control("I4", "a known address gets the same answer, and its owner a mail")
async def test_registering_a_known_address_answers_the_same_and_tells_its_owner(auth: World) -> None:
    stub = AuthServiceStub(auth.one.channel)
    ada = await auth.join()
    fresh = people.somebody("bo")
    known = await stub.Register(pb.RegisterRequest(email=ada.email.upper(), password="another good one 9"))
    unknown = await stub.Register(pb.RegisterRequest(email=fresh.email, password=fresh.password))
    assert known == unknown
    mails = await people.mailed(auth.mail_dir, ada.email, count=2)
    assert "an account already" in mails[1]
    assert await people.mailed_token(auth.mail_dir, fresh.email)
    await people.sign_in(auth.one.channel, ada)
    assert len(auth.sql("SELECT 1 FROM auth.accounts WHERE email_key = %s", ada.email)) == 1


async def test_two_registrations_of_one_address_at_once_make_one_account(auth: World) -> None:
    ada = people.somebody()
    await asyncio.gather(*(people.register(auth.one.channel, ada) for _ in range(4)))
    assert len(auth.sql("SELECT 1 FROM auth.accounts WHERE email_key = %s", ada.email)) == 1
    await people.verify(auth.one.channel, auth.mail_dir, ada)
    await people.sign_in(auth.one.channel, ada)


@pytest.mark.control("I4", "a mailed token works once, for a while, and is stored hashed")
async def test_a_mailed_token_works_once(auth: World) -> None:
    ada = people.somebody()
    await people.register(auth.one.channel, ada)
    token = await people.mailed_token(auth.mail_dir, ada.email)
    stub = AuthServiceStub(auth.one.channel)
    assert not [row for row in auth.sql("SELECT l::text FROM auth.link_tokens l") if token in str(row)]
    assert not [row for row in auth.sql("SELECT j::text FROM jobs.jobs j") if token in str(row)]
    assert (await stub.VerifyEmail(pb.VerifyEmailRequest(token=token))).email == ada.email
    async with refused(INVALID, "LINK_TOKEN_INVALID"):
        await stub.VerifyEmail(pb.VerifyEmailRequest(token=token))
    async with refused(INVALID, "LINK_TOKEN_INVALID"):
        await stub.VerifyEmail(pb.VerifyEmailRequest(token=token[::-1]))


@pytest.mark.control("I4", "a mailed token works once, for a while, and is stored hashed")
async def test_an_expired_token_does_not_work(auth: World) -> None:
    ada = people.somebody()
    await people.register(auth.one.channel, ada)
    token = await people.mailed_token(auth.mail_dir, ada.email)
    auth.clock.ahead = timedelta(hours=24, seconds=1)
    try:
        async with refused(INVALID, "LINK_TOKEN_INVALID"):
            await AuthServiceStub(auth.one.channel).VerifyEmail(pb.VerifyEmailRequest(token=token))
    finally:
        auth.clock.ahead = timedelta(0)
    await people.verify(auth.one.channel, auth.mail_dir, ada)


async def test_whoever_registers_an_address_first_does_not_get_in_by_its_owners_mail(auth: World) -> None:
    owner, thief = people.somebody(), people.somebody()
    thief.email = owner.email
    await people.register(auth.one.channel, thief)
    await people.mailed(auth.mail_dir, owner.email)
    await people.register(auth.one.channel, owner)
    await people.mailed(auth.mail_dir, owner.email, count=2)
    await people.verify(auth.one.channel, auth.mail_dir, owner)
    async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
        await people.sign_in(auth.one.channel, thief)
    await people.sign_in(auth.one.channel, owner)


async def test_an_address_that_is_not_verified_cannot_sign_in(auth: World) -> None:
    ada = people.somebody()
    await people.register(auth.one.channel, ada)
    async with refused(PRECONDITION, "EMAIL_NOT_VERIFIED"):
        await people.sign_in(auth.one.channel, ada)
    await people.verify(auth.one.channel, auth.mail_dir, ada)
    await people.sign_in(auth.one.channel, ada)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.RegisterRequest(email="ada@example.com", password="password1"), "PASSWORD_REFUSED"),
        (pb.RegisterRequest(email="ada@mailinator.com", password="a good one 17"), "EMAIL_REFUSED"),
        (pb.RegisterRequest(email="no address", password="a good one 17"), "EMAIL_REFUSED"),
        (pb.RegisterRequest(email="ada@example.com", password="7 chars"), "INVALID_ARGUMENT"),
        (pb.RegisterRequest(email="ada@example.com", password="x" * 129), "INVALID_ARGUMENT"),
        (pb.RegisterRequest(password="a good one 17"), "INVALID_ARGUMENT"),
        (pb.RegisterRequest(email="a" * 256, password="a good one 17"), "INVALID_ARGUMENT"),
    ],
)
async def test_bad_input_is_refused(auth: World, request_: pb.RegisterRequest, reason: str) -> None:
    async with refused(INVALID, reason):
        await AuthServiceStub(auth.one.channel).Register(request_)


@pytest.mark.control("I3", "an unknown address is answered like a wrong password")
async def test_an_unknown_address_and_a_wrong_password_are_answered_alike(auth: World) -> None:
    ada = await auth.join()
    told = []
    for email in (ada.email, people.somebody().email, "not even an address"):
        request = pb.SignInRequest(email=email, password="not the password")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await AuthServiceStub(auth.one.channel).SignIn(request)
        told.append((caught.value.code(), caught.value.details()))
    assert len(set(told)) == 1
    assert told[0][0] is UNAUTHENTICATED
    await people.sign_in(auth.one.channel, ada)


@pytest.mark.control("I3", "five failures in a row lock the account for fifteen minutes")
async def test_five_failures_lock_even_the_right_password_out_for_fifteen_minutes(auth: World) -> None:
    ada = await auth.join()
    right, ada.password = ada.password, "not the password"
    for _ in range(5):
        async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
            await people.sign_in(auth.one.channel, ada)
    ada.password = right
    async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
        await people.sign_in(auth.one.channel, ada)
    auth.clock.ahead = timedelta(minutes=15, seconds=1)
    try:
        await people.sign_in(auth.one.channel, ada)
    finally:
        auth.clock.ahead = timedelta(0)


@pytest.mark.control("A1", "sign-in success and failure are audited")
async def test_every_attempt_leaves_an_audit_entry_without_the_address(auth: World) -> None:
    ada = await auth.join()
    right, ada.password = ada.password, "not the password"
    async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
        await people.sign_in(auth.one.channel, ada)
    ada.password = right
    (account,) = auth.sql("SELECT id FROM auth.accounts WHERE email = %s", ada.email)[0]
    rows = auth.sql("SELECT action, outcome, e::text FROM audit.entries e WHERE e::text LIKE %s", f"%{account}%")
    assert {("account.email_verified", "success"), ("session.refused", "failure")} <= {row[:2] for row in rows}
    opened = auth.sql("SELECT action FROM audit.entries WHERE actor_id = %s", ada.user_id)
    assert ("session.opened",) in opened
    everything = auth.sql("SELECT e::text FROM audit.entries e")
    assert not [row for row in everything if ada.email in str(row) or right in str(row)]


async def test_a_person_of_two_organizations_names_the_one_to_enter(auth: World) -> None:
    ada, bo = await auth.join(), await auth.join("bo")
    (account,) = auth.sql("SELECT account_id FROM auth.users WHERE id = %s", ada.user_id)[0]
    second = f"second{ada.user_id}"
    auth.sql(
        "INSERT INTO auth.users (organization_id, id, account_id, role, display_name)"
        " VALUES (%s, %s, %s, 'MEMBER', 'Ada')",
        bo.organization_id, second, account,
    )  # fmt: skip
    async with refused(PRECONDITION, "ORGANIZATION_REQUIRED"):
        await people.sign_in(auth.one.channel, ada)
    answer = await people.sign_in(auth.one.channel, ada, organization=f"organizations/{bo.organization_id}")
    assert answer.user.name == f"organizations/{bo.organization_id}/users/{second}"
    assert answer.user.role == pb.ROLE_MEMBER
    async with refused(grpc.StatusCode.NOT_FOUND, "ORGANIZATION_NOT_FOUND"):
        await people.sign_in(auth.one.channel, ada, organization="organizations/" + "0" * 26)


async def test_a_disabled_person_cannot_sign_in(auth: World) -> None:
    ada = await auth.join()
    auth.sql("UPDATE auth.users SET disabled_at = now() WHERE id = %s", ada.user_id)
    async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
        await people.sign_in(auth.one.channel, ada)
    auth.sql("UPDATE auth.users SET disabled_at = NULL WHERE id = %s", ada.user_id)
    auth.sql("UPDATE auth.organizations SET disabled_at = now() WHERE id = %s", ada.organization_id)
    async with refused(UNAUTHENTICATED, "SIGN_IN_FAILED"):
        await people.sign_in(auth.one.channel, ada)
    auth.sql("UPDATE auth.organizations SET disabled_at = NULL WHERE id = %s", ada.organization_id)
    await people.sign_in(auth.one.channel, ada)


@pytest.mark.control("S1", "browser credentials are HttpOnly cookies that no script can read")
async def test_a_browser_gets_two_cookies_and_no_readable_credential(auth: World) -> None:
    ada = await auth.join()
    request = pb.SignInRequest(email=ada.email, password=ada.password, delivery=pb.DELIVERY_COOKIES)
    answer, metadata = await auth.one.call("SignIn", request, pb.SignInResponse)
    assert not answer.session.access_token
    assert not answer.session.refresh_token
    assert answer.session.csrf_token
    cookies = {value.partition("=")[0]: value for key, value in metadata if key == "set-cookie"}
    assert set(cookies) == {"__Host-session", "__Secure-refresh"}
    for value in cookies.values():
        assert {"Secure", "HttpOnly", "SameSite=Lax"} <= set(value.split("; "))
        assert "Domain" not in value
    assert "Path=/" in cookies["__Host-session"].split("; ")
    assert "Path=/holdfast.auth.v1.AuthService/RefreshSession" in cookies["__Secure-refresh"].split("; ")
    assert "Max-Age" not in str(cookies)
    request.remember_me = True
    _, metadata = await auth.one.call("SignIn", request, pb.SignInResponse)
    assert sum("Max-Age=604" in value for key, value in metadata if key == "set-cookie") == 1


async def test_a_browser_refreshes_by_cookie_and_forgets_at_sign_out(auth: World) -> None:
    ada = await auth.join()
    request = pb.SignInRequest(email=ada.email, password=ada.password, delivery=pb.DELIVERY_COOKIES)
    _, metadata = await auth.one.call("SignIn", request, pb.SignInResponse)
    cookie = "; ".join(value.partition(";")[0] for key, value in metadata if key == "set-cookie")
    answer, metadata = await auth.one.call(
        "RefreshSession", pb.RefreshSessionRequest(), pb.RefreshSessionResponse, {"cookie": cookie}
    )
    assert not answer.session.refresh_token
    people.note(ada, answer.session)
    jar = dict(value.partition(";")[0].split("=", 1) for key, value in metadata if key == "set-cookie")
    ada.access_token = jar["__Host-session"]
    allowed = await auth.one.as_person(ada, "/holdfast.auth.v1.AuthService/SignOut")
    _, metadata = await auth.one.call(
        "SignOut", pb.SignOutRequest(), pb.SignOutResponse, {"x-user-token": allowed.user_token}
    )
    assert sum("Max-Age=0" in value for key, value in metadata if key == "set-cookie") == 2


@pytest.mark.control("I2", "a password is hashed again at sign-in when the parameters have changed")
async def test_old_parameters_are_hashed_again_at_sign_in(auth: World) -> None:
    ada = await auth.join()
    async with auth.replica(argon2_time_cost=3) as stronger:
        await people.sign_in(stronger.channel, ada)
    (stored,) = auth.sql("SELECT password_hash FROM auth.accounts WHERE email = %s", ada.email)[0]
    assert stored.startswith("$argon2id$v=19$m=19456,t=3,p=1$")
    await people.sign_in(auth.one.channel, ada)
