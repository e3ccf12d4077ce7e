"""The edge's check: what is let through, and everything that is not."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.usertoken import Key, Keys, TokenError, Verifier
from holdfast.usertoken.keys import write_keys
from libs import clock, http1
from libs.rpc.policy import Access, Effect, all_methods
from tests.support import people
from tests.support.auth import AUTH, COOKIE_KEYS, ORIGIN, World, next_poll, part, write_secrets
from tests.support.people import Person
from tests.support.tokens import keys

GET_ME, SIGN_OUT, REFRESH = f"{AUTH}/GetMe", f"{AUTH}/SignOut", f"{AUTH}/RefreshSession"
LIST = "/holdfast.files.v1.FileService/ListFiles"
DOWNLOAD = "/holdfast.files.v1.FileService/DownloadFile"
METHODS = all_methods()


async def browser(auth: World, who: Person) -> str:
    """Sign the person in by cookies; the Cookie header of a browser, with the CSRF token noted on the person."""
    request = pb.SignInRequest(email=who.email, password=who.password, delivery=pb.DELIVERY_COOKIES)
    answer, metadata = await auth.one.call("SignIn", request, pb.SignInResponse)
    people.note(who, answer.session)
    return "; ".join(value.partition(";")[0] for key, value in metadata if key == "set-cookie")


@pytest.mark.control("T1", "a key of one audience makes no token that another audience believes")
@pytest.mark.parametrize("audience", ["auth", "files", "events"])
async def test_a_bearer_token_becomes_a_user_token_for_the_routes_audience_only(auth: World, audience: str) -> None:
    ada = await auth.join()
    path = {"auth": GET_ME, "files": LIST, "events": "/holdfast.events.v1.EventService/Publish"}[audience]
    allowed = await auth.one.as_person(ada, path, audience=audience)
    assert allowed.status == 200
    assert set(allowed.headers["x-envoy-auth-headers-to-remove"].split(",")) == {"cookie", "authorization"}
    claims = Verifier(audience, lambda: keys(audience)).verify(allowed.user_token, clock.now())
    assert (claims.user_id, claims.organization_id, claims.session_id) == (
        ada.user_id,
        ada.organization_id,
        ada.session_id,
    )
    assert (claims.role, claims.tier, claims.scopes, claims.actor) == ("OWNER", "free", frozenset(), "")
    assert 0 < claims.expires_at - claims.issued_at <= 60
    for other in {"auth", "files", "events", "backup"} - {audience}:
        with pytest.raises(TokenError):
            Verifier(other, partial(keys, other)).verify(allowed.user_token, clock.now())


@pytest.mark.parametrize(
    ("path", "method", "content_type"),
    [("/v1/files/a%20b.txt", "PUT", "text/plain"), ("/v1/files/x", "GET", ""), ("/v1/files/x", "HEAD", "")],
)
async def test_http_routes_are_admitted_by_their_own_policy(
    auth: World, path: str, method: str, content_type: str
) -> None:
    ada = await auth.join()
    allowed = await auth.one.as_person(ada, path, audience="files", method=method, content_type=content_type)
    assert (allowed.status, bool(allowed.user_token)) == (200, True)
    nobody = await auth.one.check(path, audience="files", method=method, content_type=content_type)
    assert (nobody.status, method == "HEAD" or nobody.reason) == (401, method == "HEAD" or "UNAUTHENTICATED")
    events = await auth.one.as_person(
        ada, "/v1/events?last_event_id=1", audience="events", method="GET", content_type=""
    )
    assert events.status == 200


@pytest.mark.control("T10", "a method without a credential answers only when it is declared public")
@pytest.mark.parametrize("path", sorted(METHODS))
async def test_every_method_is_admitted_as_its_contract_says(auth: World, path: str) -> None:
    ada = await auth.join()
    declared = METHODS[path]
    wanted = {
        Access.PUBLIC: (200, 200),
        Access.USER: (401, 200),
        Access.ORG_ADMIN: (401, 200),
        Access.ORG_OWNER: (401, 200),
        Access.OPERATOR: (401, 403),
        Access.SERVICE: (403, 403),
    }[declared.access]
    nobody = await auth.one.check(path, audience=declared.audience)
    somebody = await auth.one.as_person(ada, path, audience=declared.audience)
    assert (nobody.status, somebody.status) == wanted
    assert bool(nobody.user_token) is False
    assert bool(somebody.user_token) is (somebody.status == 200 and declared.access is not Access.PUBLIC)


@pytest.mark.parametrize(
    ("path", "audience", "method"),
    [("/nothing", "auth", "POST"), (GET_ME, "files", "POST"), (GET_ME, "", "POST"), (GET_ME, "auth", "GET"),
     (f"{GET_ME}/", "auth", "POST"), (f"/{GET_ME}", "auth", "POST"), (GET_ME.lower(), "auth", "POST"),
     ("/v1/files", "files", "GET"), ("/v1/files/x", "files", "DELETE"), ("/v1/eventsx", "events", "GET"),
     ("", "auth", "POST"),
     ("/grpc.health.v1.Health/Check", "auth", "POST")],
)  # fmt: skip
async def test_a_path_nobody_declares_is_refused_whoever_asks(
    auth: World, path: str, audience: str, method: str
) -> None:
    ada = await auth.join()
    answer = await auth.one.as_person(ada, path, audience=audience, method=method)
    assert (answer.status, answer.user_token) == (404, "")  # a 5xx would read as auth being away


async def test_a_denial_reads_as_grpc_or_as_json(auth: World) -> None:
    grpc_ = await auth.one.check(GET_ME, x_request_id="req-17")
    assert (grpc_.status, grpc_.headers["grpc-status"], grpc_.headers["content-type"]) == (
        401,
        "16",
        "application/grpc",
    )
    assert grpc_.headers["grpc-message"] == grpc_.body.decode() == "Sign in first."
    assert grpc_.reason == "UNAUTHENTICATED"
    json_ = await auth.one.check("/v1/events", audience="events", method="GET", content_type="", x_request_id="req-18")
    assert (json_.status, json_.headers["content-type"], json_.reason) == (401, "application/json", "UNAUTHENTICATED")
    assert b'"request_id": "req-18"' in json_.body
    assert "grpc-status" not in json_.headers


@pytest.mark.control("S1", "a forged or expired credential is refused at the edge")
async def test_no_bent_credential_is_let_through(auth: World) -> None:
    ada, bo = await auth.join(), await auth.join("bo")
    good = ada.access_token
    parts = good.split(".")
    bent = [
        good[:-1] + ("A" if good[-1] != "A" else "E"), good + "x", good[1:], "x", ada.refresh_token,
        ".".join([*parts[:2], *bo.access_token.split(".")[2:5], *parts[5:]]),
        ".".join([*parts[:6], "9999999999", *parts[7:]]), ".".join([parts[0], "c1", *parts[2:]]),
    ]  # fmt: skip
    for credential in bent:
        answer = await auth.one.check(GET_ME, authorization=f"Bearer {credential}")
        assert (answer.status, answer.reason, answer.user_token) == (401, "UNAUTHENTICATED", ""), credential
    for header in (f"Basic {good}", good, f"Bearer {good}, Bearer {good}", "Bearer", f"Bearer  {bo.refresh_token}"):
        assert (await auth.one.check(GET_ME, authorization=header)).status == 401
    assert (await auth.one.check(GET_ME, authorization=f"bearer {good}")).status == 200


async def test_an_expired_handle_is_refused_also_when_it_was_remembered(auth: World) -> None:
    ada = await auth.join()
    try:
        auth.clock.ahead = timedelta(minutes=29, seconds=50)
        assert (await auth.one.as_person(ada)).status == 200
        auth.clock.ahead = timedelta(minutes=30, seconds=1)
        assert (await auth.one.as_person(ada)).status == 401
    finally:
        auth.clock.ahead = timedelta(0)


async def test_a_remembered_token_is_replaced_in_time(auth: World) -> None:
    ada = await auth.join()
    first = (await auth.one.as_person(ada)).user_token
    assert (await auth.one.as_person(ada)).user_token == first
    try:
        auth.clock.ahead = timedelta(seconds=31)
        second = (await auth.one.as_person(ada)).user_token
    finally:
        auth.clock.ahead = timedelta(0)
    assert second != first


@pytest.mark.control("S6", "a foreign Origin is refused before anything else")
@pytest.mark.parametrize("path", [GET_ME, SIGN_OUT, f"{AUTH}/SignIn", REFRESH])
async def test_a_foreign_origin_is_refused_on_every_kind_of_method(auth: World, path: str) -> None:
    ada = await auth.join()
    assert (await auth.one.as_person(ada, path, origin=ORIGIN)).status == 200
    for foreign in ("https://evil.tld", f"{ORIGIN}.evil.tld", "null", ORIGIN.replace("https", "http")):
        answer = await auth.one.as_person(ada, path, origin=foreign)
        assert (answer.status, answer.reason, answer.user_token) == (403, "ORIGIN_NOT_ALLOWED", "")
    answer = await auth.one.as_person(ada, path, referer="https://evil.tld/")
    assert (answer.status, answer.reason) == (403, "ORIGIN_NOT_ALLOWED")


@pytest.mark.control("S6", "only the declared content types are taken")
async def test_a_foreign_content_type_is_refused(auth: World) -> None:
    ada = await auth.join()
    for fits in ("application/grpc", "application/grpc+proto", "application/grpc; x=1", "application/grpc-web+proto"):
        assert (await auth.one.as_person(ada, GET_ME, content_type=fits)).status == 200
    json_ = "application/json"  # of a unary method the edge makes gRPC of it, after this check
    assert (await auth.one.as_person(ada, GET_ME, content_type=json_)).status == 200
    stream = await auth.one.as_person(ada, DOWNLOAD, audience="files", content_type=json_)
    assert (stream.status, stream.user_token) == (415, "")
    for foreign in ("text/plain", "application/grpcx", "multipart/form-data", "", "application/x-grpc", "text/json"):
        answer = await auth.one.as_person(ada, GET_ME, content_type=foreign)
        assert (answer.status, answer.user_token) == (415, ""), foreign
        assert answer.reason == "CONTENT_TYPE_NOT_ALLOWED"


@pytest.mark.control("S6", "a state-changing call by cookie needs a CSRF token")
async def test_a_cookie_writes_only_with_a_page_and_a_csrf_token_of_its_own_session(auth: World) -> None:
    ada, bo = await auth.join(), await auth.join("bo")
    cookie = await browser(auth, ada)
    await browser(auth, bo)
    read = await auth.one.check(GET_ME, cookie=cookie)
    assert read.status == 200
    good = {"cookie": cookie, "origin": ORIGIN, "x_csrf_token": ada.csrf_token}
    assert (await auth.one.check(SIGN_OUT, **good)).status == 200
    assert (
        await auth.one.check(SIGN_OUT, cookie=cookie, referer=f"{ORIGIN}/x", x_csrf_token=ada.csrf_token)
    ).status == 200
    for change, reason in (
        ({"x_csrf_token": ""}, "CSRF_TOKEN_INVALID"),
        ({"x_csrf_token": bo.csrf_token}, "CSRF_TOKEN_INVALID"),
        (
            {"x_csrf_token": ada.csrf_token[:-2] + ("EE" if ada.csrf_token.endswith("AA") else "AA")},
            "CSRF_TOKEN_INVALID",
        ),
        ({"origin": ""}, "ORIGIN_NOT_ALLOWED"),
        ({"origin": "https://evil.tld"}, "ORIGIN_NOT_ALLOWED"),
    ):
        answer = await auth.one.check(SIGN_OUT, **{**good, **change})
        assert (answer.status, answer.reason, answer.user_token) == (403, reason, "")
    put = await auth.one.check("/v1/files/x", audience="files", method="PUT", content_type="text/plain", cookie=cookie)
    assert put.status == 403
    auth.clock.ahead = timedelta(minutes=30, seconds=10)
    try:
        refreshed = await auth.one.check(REFRESH, cookie=cookie, origin=ORIGIN)
    finally:
        auth.clock.ahead = timedelta(0)
    assert refreshed.status == 200


async def test_get_me_gives_a_csrf_token_that_is_taken(auth: World) -> None:
    ada = await auth.join()
    cookie = await browser(auth, ada)
    allowed = await auth.one.check(GET_ME, cookie=cookie)
    answer, _ = await auth.one.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse, {"x-user-token": allowed.user_token})
    token = answer.session.csrf_token
    assert (await auth.one.check(SIGN_OUT, cookie=cookie, origin=ORIGIN, x_csrf_token=token)).status == 200


async def test_the_refresh_cookie_goes_on_to_its_method_only_and_needs_a_page(auth: World) -> None:
    cookie = await browser(auth, await auth.join())
    assert (await auth.one.check(REFRESH, cookie=cookie)).reason == "ORIGIN_NOT_ALLOWED"
    allowed = await auth.one.check(REFRESH, cookie=cookie, origin=ORIGIN)
    assert (allowed.status, allowed.headers["x-envoy-auth-headers-to-remove"]) == (200, "authorization")
    other = await auth.one.check(f"{AUTH}/SignIn", cookie=cookie, origin=ORIGIN)
    assert "cookie" in other.headers["x-envoy-auth-headers-to-remove"]


async def test_a_planted_second_cookie_is_refused(auth: World) -> None:
    ada, bo = await auth.join(), await auth.join("bo")
    mine, planted = await browser(auth, ada), await browser(auth, bo)
    answer = await auth.one.check(GET_ME, cookie=f"{mine}; {planted}")
    assert (answer.status, answer.user_token) == (401, "")
    assert (await auth.one.check(GET_ME, cookie=f"x=1; {mine}; y=__Host-session")).status == 200


@pytest.mark.control("S4", "logout and revocation are effective at the edge within two seconds")
async def test_sign_out_is_effective_on_every_replica_after_one_poll_of_the_feed(auth: World) -> None:
    ada, bo = await auth.join(), await auth.join("bo")
    async with auth.replica() as other:
        for replica in (auth.one, other):
            assert (await replica.as_person(ada)).status == (await replica.as_person(bo)).status == 200
        await auth.one.sign_out(ada)
        await asyncio.gather(next_poll(auth.one), next_poll(other))
        for replica in (auth.one, other):
            answer = await replica.as_person(ada)
            assert (answer.status, answer.reason, answer.user_token) == (401, "SESSION_ENDED", "")
            assert (await replica.as_person(bo)).status == 200


@pytest.mark.control("S4", "logout and revocation are effective at the edge within two seconds")
@pytest.mark.parametrize(
    ("statement", "undo"),
    [
        (
            "UPDATE auth.users SET disabled_at = now() WHERE id = %(user)s",
            "UPDATE auth.users SET disabled_at = NULL WHERE id = %(user)s",
        ),
        ("UPDATE auth.users SET epoch = epoch + 1 WHERE id = %(user)s", ""),
        ("UPDATE auth.users SET tombstoned_at = now() WHERE id = %(user)s", ""),
        ("UPDATE auth.organizations SET epoch = epoch + 1 WHERE id = %(organization)s", ""),
        ("UPDATE auth.organizations SET disabled_at = now() WHERE id = %(organization)s", ""),
        ("UPDATE auth.accounts SET disabled_at = now() WHERE email = %(email)s", ""),
        ("UPDATE auth.installation SET epoch = epoch + 1", ""),
        ("UPDATE auth.sessions SET ended_at = now() WHERE id = %(session)s", ""),
    ],
)  # fmt: skip
async def test_whatever_ends_a_session_by_hand_is_effective_too(auth: World, statement: str, undo: str) -> None:
    ada = await auth.join()
    assert (await auth.one.as_person(ada)).status == 200
    values = {"user": ada.user_id, "organization": ada.organization_id, "email": ada.email, "session": ada.session_id}
    with auth.database.admin() as connection:
        connection.execute(statement, values)
    await next_poll(auth.one)
    answer = await auth.one.as_person(ada)
    assert (answer.status, answer.reason) == (401, "SESSION_ENDED")
    if undo:
        with auth.database.admin() as connection:
            connection.execute(undo, values)
        await next_poll(auth.one)
        assert (await auth.one.as_person(ada)).status == 200


async def test_a_changed_role_is_in_the_next_token(auth: World) -> None:
    ada = await auth.join()
    assert (await auth.one.as_person(ada)).status == 200
    auth.sql("UPDATE auth.users SET role = 'MEMBER' WHERE id = %s", ada.user_id)
    await next_poll(auth.one)
    token = (await auth.one.as_person(ada)).user_token
    assert Verifier("auth", lambda: keys("auth")).verify(token, clock.now()).role == "MEMBER"


@pytest.mark.control("S4", "a replica whose feed is older than two seconds denies")
async def test_a_replica_that_cannot_read_the_feed_denies_and_recovers(auth: World) -> None:
    ada = await auth.join()
    async with auth.replica() as alone:
        assert (await alone.as_person(ada)).status == 200
        feed = part(alone.app, "EpochFeed")
        await feed.stop()
        read_at, feed._monotonic = feed._read_at, lambda: feed._read_at + 1.9
        assert (await alone.as_person(ada)).status == 200
        feed._monotonic = lambda: read_at + 2.1
        answer = await alone.as_person(ada)
        assert (answer.status, answer.reason, answer.user_token) == (503, "UNAVAILABLE", "")
        assert (await alone.check(f"{AUTH}/SignIn")).status == 200
        await feed.poll()
        feed._monotonic = lambda: feed._read_at
        assert (await alone.as_person(ada)).status == 200


async def test_a_hit_reads_no_database_and_a_stale_feed_empties_what_is_remembered(auth: World) -> None:
    ada = await auth.join()
    async with auth.replica() as alone:
        feed = part(alone.app, "EpochFeed")
        await feed.stop()
        feed._monotonic = lambda: feed._read_at
        first = await alone.as_person(ada)
        await auth.one.sign_out(ada)
        # The feed stands still, so only a hit can say yes now: it reads nothing.
        assert (await alone.as_person(ada)).user_token == first.user_token
        feed._monotonic = lambda: feed._read_at + 1.6
        assert (await alone.as_person(ada)).reason == "SESSION_ENDED"


async def test_a_withdrawn_cookie_key_is_refused_at_once(auth: World) -> None:
    ada = await auth.join()
    async with auth.replica() as replica:
        assert (await replica.as_person(ada)).status == 200
        fresh = Key("c9", b"a cookie key that nobody has seen 9")
        write_secrets(
            Path(replica.config.secrets_dir), cookie_keys=write_keys(Keys(fresh, previous=COOKIE_KEYS.current))
        )
        assert (await replica.as_person(ada)).status == 200
        write_secrets(Path(replica.config.secrets_dir), cookie_keys=write_keys(Keys(fresh)))
        assert (await replica.as_person(ada)).status == 401


@pytest.mark.control("I7", "an operator exists by SQL alone, and the statement is audited")
async def test_an_operator_is_made_by_sql_has_the_scope_after_sign_in_and_loses_it_at_once(auth: World) -> None:
    ada = await auth.join()
    path = "/holdfast.backup.v1.BackupService/ListBackups"
    (account,) = auth.sql("SELECT id FROM auth.accounts WHERE email = %s", ada.email)[0]
    async with auth.database.session() as owner:
        await owner.execute("INSERT INTO auth.operators (account_id, reason) VALUES (%s, 'the test')", [account])
    await next_poll(auth.one)
    assert (await auth.one.as_person(ada, path, audience="backup")).status == 403
    await people.sign_in(auth.one.channel, ada)
    allowed = await auth.one.as_person(ada, path, audience="backup")
    assert allowed.status == 200
    claims = Verifier("backup", lambda: keys("backup")).verify(allowed.user_token, clock.now())
    assert claims.scopes == {"operator"}
    async with auth.database.session() as owner:
        await owner.execute("DELETE FROM auth.operators WHERE account_id = %s", [account])
    await next_poll(auth.one)
    assert (await auth.one.as_person(ada, path, audience="backup")).status == 403
    assert (await auth.one.as_person(ada)).status == 200
    entries = auth.sql(
        "SELECT service, action, actor_kind, actor_id FROM audit.entries"
        " WHERE facts ->> 'account' = %s AND action LIKE 'operator.%%' ORDER BY id",
        account,
    )  # fmt: skip
    assert entries == [
        ("database", "operator.granted", "database", "holdfast_owner"),
        ("database", "operator.removed", "database", "holdfast_owner"),
    ]


def test_no_method_of_the_contract_makes_an_operator() -> None:
    assert not [path for path in METHODS if "perator" in path]
    assert {found.effect for found in METHODS.values()} == {Effect.READ, Effect.WRITE}


async def test_a_fault_of_ours_denies(auth: World) -> None:
    ada = await auth.join()
    async with auth.replica() as broken:
        (web,) = (each for each in broken.app.parts if isinstance(each, http1.Server))
        check = getattr(web.handle, "__self__")  # noqa: B009 - a bound method's owner, to break it on purpose
        check._admission._minter = None
        answer = await broken.as_person(ada)
        assert (answer.status, answer.reason, answer.user_token) == (503, "UNAVAILABLE", "")
        assert (await auth.one.as_person(ada)).status == 200
