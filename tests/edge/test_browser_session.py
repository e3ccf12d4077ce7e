"""A browser's session through the real Envoy and the real auth: cookies, CSRF, refresh, sign-out, foreign pages."""

import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import grpc
import httpx
import pytest
from google.protobuf.message import Message

from deploy.stack.edge import GRPC_WEB, split_frames
from holdfast.auth.v1 import auth_service_pb2 as pb
from tests.support import people
from tests.support.auth import AUTH, ORIGIN, World, next_poll, reason_of, unbase64
from tests.support.edge import BareEdge

AnswerT = TypeVar("AnswerT", bound=Message)


class Refused(Exception):
    """code: the gRPC status name; why: the ErrorInfo's reason."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(code, why)
        self.code, self.why = code, why


class Browser:
    """gRPC-web with a cookie jar and a page's Origin."""

    def __init__(self, edge: BareEdge) -> None:
        trust = ssl.create_default_context(cafile=str(edge.ca_file))
        self.web = httpx.AsyncClient(base_url=edge.url, verify=trust, timeout=10)
        self.csrf = ""

    async def call(self, method: str, request: Message, kind: type[AnswerT], *, origin: str = ORIGIN) -> AnswerT:
        """One unary call. Raises Refused."""
        wire = request.SerializeToString()
        headers = {"content-type": GRPC_WEB, "x-grpc-web": "1", "origin": origin, "x-csrf-token": self.csrf}
        reply = await self.web.post(
            f"{AUTH}/{method}",
            content=struct.pack(">BI", 0, len(wire)) + wire,
            headers={name: value for name, value in headers.items() if value},
        )
        data, trailers = (
            split_frames(reply.content) if reply.headers["content-type"].startswith(GRPC_WEB) else (b"", {})
        )
        told = {**reply.headers, **trailers}
        if told.get("grpc-status") != "0":
            code = next(each for each in grpc.StatusCode if str(each.value[0]) == told.get("grpc-status"))
            raise Refused(code.name, reason_of(unbase64(unquote(told["grpc-status-details-bin"]))))
        return kind.FromString(data)


@pytest.fixture(scope="module")
def edge_directory() -> Iterator[Path]:
    """A short path: sockets live in it."""
    with tempfile.TemporaryDirectory(prefix="hf-browser-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
async def real_edge(auth: World, edge_directory: Path) -> AsyncIterator[BareEdge]:
    """Envoy in front of this module's auth service."""
    directory = edge_directory
    nobody = f"unix:{directory / 'h2.sock'}"
    upstreams = {
        **{f"{name}_grpc": nobody for name in ("files", "events", "backup")},
        **{f"{name}_http": f"unix:{directory / 'h1.sock'}" for name in ("files", "events")},
        "auth_grpc": auth.one.config.grpc_address,
        "auth_check": auth.one.config.http_address,
    }
    with BareEdge(directory, upstreams=upstreams, allowed_origins=(ORIGIN,)).running() as edge:
        yield edge


@pytest.fixture
async def browser(real_edge: BareEdge) -> AsyncIterator[Browser]:
    """A browser with an empty jar."""
    made = Browser(real_edge)
    yield made
    await made.web.aclose()


async def signed_in(auth: World, browser: Browser) -> people.Person:
    """A new person, signed in by cookies in this browser."""
    ada = people.somebody()
    await browser.call("Register", pb.RegisterRequest(email=ada.email, password=ada.password), pb.RegisterResponse)
    token = await people.mailed_token(auth.mail_dir, ada.email)
    await browser.call("VerifyEmail", pb.VerifyEmailRequest(token=token), pb.VerifyEmailResponse)
    request = pb.SignInRequest(email=ada.email, password=ada.password, delivery=pb.DELIVERY_COOKIES)
    answer = await browser.call("SignIn", request, pb.SignInResponse)
    people.note(ada, answer.session)
    browser.csrf = answer.session.csrf_token
    return ada


@pytest.mark.control("S1", "browser credentials are HttpOnly cookies that no script can read")
async def test_a_browser_lives_by_its_cookies_alone(auth: World, browser: Browser) -> None:
    ada = await signed_in(auth, browser)
    assert not ada.access_token
    me = await browser.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse)
    assert (me.user.email, me.user.name) == (ada.email, ada.name)
    before = dict(browser.web.cookies)
    browser.csrf = ""  # a page opened again has forgotten it
    refreshed = await browser.call("RefreshSession", pb.RefreshSessionRequest(), pb.RefreshSessionResponse)
    assert all(dict(browser.web.cookies)[name] != value for name, value in before.items())
    browser.csrf = refreshed.session.csrf_token
    await browser.call("SignOut", pb.SignOutRequest(), pb.SignOutResponse)
    assert not dict(browser.web.cookies)
    with pytest.raises(Refused) as caught:
        await browser.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse)
    assert (caught.value.code, caught.value.why) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


@pytest.mark.control("S6", "a state-changing call by cookie needs a CSRF token")
async def test_a_page_without_the_csrf_token_cannot_sign_a_browser_out(auth: World, browser: Browser) -> None:
    await signed_in(auth, browser)
    good, browser.csrf = browser.csrf, ""
    with pytest.raises(Refused) as caught:
        await browser.call("SignOut", pb.SignOutRequest(), pb.SignOutResponse)
    assert (caught.value.code, caught.value.why) == ("PERMISSION_DENIED", "CSRF_TOKEN_INVALID")
    browser.csrf = good
    await browser.call("SignOut", pb.SignOutRequest(), pb.SignOutResponse)


@pytest.mark.control("S6", "a foreign Origin is refused before anything else")
@pytest.mark.parametrize("origin", ["https://evil.tld", f"{ORIGIN}.evil.tld", "null"])
async def test_a_foreign_page_gets_nowhere(auth: World, browser: Browser, origin: str) -> None:
    await signed_in(auth, browser)
    with pytest.raises(Refused) as caught:
        await browser.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse, origin=origin)
    assert (caught.value.code, caught.value.why) == ("PERMISSION_DENIED", "ORIGIN_NOT_ALLOWED")
    await browser.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse)


async def test_an_ended_session_is_told_from_none(auth: World, browser: Browser) -> None:
    ada = await signed_in(auth, browser)
    await browser.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse)
    auth.sql("UPDATE auth.users SET epoch = epoch + 1 WHERE id = %s", ada.user_id)
    await next_poll(auth.one)
    with pytest.raises(Refused) as caught:
        await browser.call("GetMe", pb.GetMeRequest(), pb.GetMeResponse)
    assert (caught.value.code, caught.value.why) == ("UNAUTHENTICATED", "SESSION_ENDED")
