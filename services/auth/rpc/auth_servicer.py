"""AuthService."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.auth.v1 import auth_service_pb2_grpc
from libs import names
from libs.clock import Clock
from libs.rpc.call import Context, user
from services.auth.domain.admission import cookie
from services.auth.domain.credential import REFRESH_COOKIE
from services.auth.domain.session import Session
from services.auth.ops.issue import Issued, Me
from services.auth.ops.registration import LINK_LIFETIME, Registration
from services.auth.ops.sessions import Sessions
from services.auth.ops.sign_in import SignIn
from services.auth.rpc import cookies

_ROLES = {"MEMBER": pb.ROLE_MEMBER, "ADMIN": pb.ROLE_ADMIN, "OWNER": pb.ROLE_OWNER}
_COOKIES, _TOKENS = "COOKIES", "TOKENS"


class AuthServicer(auth_service_pb2_grpc.AuthServiceServicer):
    """Registration, sign-in and sessions, for browsers and other clients."""

    def __init__(self, *, registration: Registration, sign_in: SignIn, sessions: Sessions, now: Clock) -> None:
        self._registration, self._sign_in, self._sessions, self._now = registration, sign_in, sessions, now

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:
        """The same answer whether the address is known or not."""
        await self._registration.register(
            request.email, request.password, request.display_name, request.organization_display_name
        )
        return pb.RegisterResponse(verification_ttl_seconds=int(LINK_LIFETIME.total_seconds()))

    async def VerifyEmail(self, request: pb.VerifyEmailRequest, context: Context) -> pb.VerifyEmailResponse:
        """Use up a mailed token."""
        return pb.VerifyEmailResponse(email=await self._registration.verify_email(request.token))

    async def SignIn(self, request: pb.SignInRequest, context: Context) -> pb.SignInResponse:
        """Open a session; a browser's credentials travel as cookies only."""
        wanted = names.ORGANIZATION.parse(request.organization, field="organization") if request.organization else {}
        issued = await self._sign_in.sign_in(
            request.email,
            request.password,
            organization_id=wanted.get("organization", ""),
            delivery=_COOKIES if request.delivery == pb.DELIVERY_COOKIES else _TOKENS,
            remember=request.remember_me,
        )
        await self._set_cookies(issued, context)
        answer = pb.SignInResponse(session=_issued(issued))
        if issued.me is not None:
            answer.user.CopyFrom(_user(issued.me))
        return answer

    async def RefreshSession(self, request: pb.RefreshSessionRequest, context: Context) -> pb.RefreshSessionResponse:
        """New credentials, delivered as at sign-in."""
        presented = request.refresh_token or cookie(_cookie_header(context), REFRESH_COOKIE) or ""
        issued = await self._sessions.refresh(presented)
        await self._set_cookies(issued, context)
        return pb.RefreshSessionResponse(session=_issued(issued))

    async def SignOut(self, request: pb.SignOutRequest, context: Context) -> pb.SignOutResponse:
        """End the caller's session, and have a browser forget its cookies."""
        await self._sessions.sign_out(user(context))
        await context.send_initial_metadata(cookies.removed())
        return pb.SignOutResponse()

    async def GetMe(self, request: pb.GetMeRequest, context: Context) -> pb.GetMeResponse:
        """Who the caller is, and a fresh CSRF token."""
        me, session, csrf_token = await self._sessions.me(user(context))
        answer = pb.GetMeResponse(user=_user(me))
        if session is not None:
            answer.session.CopyFrom(_session(session))
            answer.session.csrf_token = csrf_token
        return answer

    async def _set_cookies(self, issued: Issued, context: Context) -> None:
        if issued.session.delivery == _COOKIES:
            # As initial metadata: the edge turns only that into Set-Cookie.
            await context.send_initial_metadata(cookies.issued(issued, now=self._now()))


def _issued(issued: Issued) -> pb.Session:
    answer = _session(issued.session)
    answer.access_expire_time.CopyFrom(_time(issued.access_expires_at))
    answer.csrf_token = issued.csrf_token
    if issued.session.delivery == _TOKENS:
        answer.access_token, answer.refresh_token = issued.access_token, issued.refresh_token
    return answer


def _session(session: Session) -> pb.Session:
    name = names.SESSION.format(organization=session.organization_id, user=session.user_id, session=session.id)
    return pb.Session(name=name, expire_time=_time(session.expires_at))


def _user(me: Me) -> pb.User:
    member, email, organization_display_name = me
    return pb.User(
        name=names.USER.format(organization=member.organization_id, user=member.user_id),
        display_name=member.display_name,
        email=email,
        role=_ROLES[member.role],
        organization_display_name=organization_display_name,
        create_time=_time(member.created_at),
    )


def _cookie_header(context: Context) -> str:
    values = [value for key, value in context.invocation_metadata() or () if key == "cookie"]
    return "; ".join(value for value in values if isinstance(value, str))


def _time(moment: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(moment)
    return found
