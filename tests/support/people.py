"""People as every test may have them: registered, verified by the mail that came, signed in; all by real calls.

`join(channel, mail_dir)` works on any channel that reaches AuthService's public methods: the service's own socket, or
the edge with native gRPC over TLS.
"""

import asyncio
import re
import secrets
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path

import grpc

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.auth.v1.auth_service_pb2_grpc import AuthServiceStub

MAIL_SECONDS = 20.0
_TOKEN = re.compile(r"(?m)^\s*([A-Za-z0-9_.~-]{20,200})\s*$")


@dataclass(slots=True)
class Person:
    """Somebody with an account and, after sign-in, a session. access_token goes into `authorization: Bearer …`."""

    email: str
    password: str
    organization_id: str = ""
    user_id: str = ""
    session_id: str = ""
    access_token: str = ""
    refresh_token: str = ""
    csrf_token: str = ""

    @property
    def name(self) -> str:
        """organizations/{o}/users/{u}"""
        return f"organizations/{self.organization_id}/users/{self.user_id}"

    @property
    def bearer(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call made through the edge."""
        return (("authorization", f"Bearer {self.access_token}"),)


def somebody(who: str = "ada") -> Person:
    """An address and a password that nobody has used yet."""
    return Person(f"{who}-{secrets.token_hex(5)}@example.com", f"{secrets.token_hex(8)} & a word")


async def register(channel: grpc.aio.Channel, person: Person) -> None:
    """Ask for the account."""
    request = pb.RegisterRequest(email=person.email, password=person.password)
    await AuthServiceStub(channel).Register(request)


async def verify(channel: grpc.aio.Channel, mail_dir: Path, person: Person) -> None:
    """Use the token of the newest mail to the person."""
    token = await mailed_token(mail_dir, person.email)
    await AuthServiceStub(channel).VerifyEmail(pb.VerifyEmailRequest(token=token))


async def sign_in(
    channel: grpc.aio.Channel, person: Person, *, organization: str = "", remember: bool = False
) -> pb.SignInResponse:
    """Open a session with the bearer pair, and note it on the person."""
    request = pb.SignInRequest(
        email=person.email,
        password=person.password,
        organization=organization,
        delivery=pb.DELIVERY_TOKENS,
        remember_me=remember,
    )
    answer: pb.SignInResponse = await AuthServiceStub(channel).SignIn(request)
    note(person, answer.session)
    return answer


def note(person: Person, session: pb.Session) -> None:
    """Keep what a session's answer says."""
    _, person.organization_id, _, person.user_id, _, person.session_id = session.name.split("/")
    person.access_token = session.access_token or person.access_token
    person.refresh_token = session.refresh_token or person.refresh_token
    person.csrf_token = session.csrf_token or person.csrf_token


async def join(channel: grpc.aio.Channel, mail_dir: Path, who: str = "ada") -> Person:
    """A new person, signed in."""
    person = somebody(who)
    await register(channel, person)
    await verify(channel, mail_dir, person)
    await sign_in(channel, person)
    return person


async def mailed(mail_dir: Path, address: str, *, count: int = 1) -> list[str]:
    """The texts of all mails to *address*, oldest first; waits until there are *count*."""
    async with asyncio.timeout(MAIL_SECONDS):
        while len(found := _mails(mail_dir, address)) < count:  # noqa: ASYNC110 - files of another process
            await asyncio.sleep(0.02)
    return found


async def mailed_token(mail_dir: Path, address: str, *, count: int = 1) -> str:
    """The token of the newest mail to *address*, of at least *count*."""
    found = _TOKEN.search((await mailed(mail_dir, address, count=count))[-1])
    assert found is not None, "the mail holds no token on a line of its own"
    return found[1]


def _mails(mail_dir: Path, address: str) -> list[str]:
    found = []
    for path in sorted(mail_dir.glob("*.eml")):
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        body = mail.get_body(("plain",))
        if address in str(mail["to"]) and body is not None:
            found.append(body.get_content())
    return found
