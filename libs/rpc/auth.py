"""Who may call: the policy's access against the tokens on the call. Any fault denies.

A user token counts only when it is there exactly once and made for this service (requirements T1, T2). A server behind
the local operator socket has one caller all its life, whose uid the front read from the kernel; see libs.rpc.operator.
"""

from collections.abc import Callable

from holdfast.usertoken import Claims, ServiceVerifier, TokenError, Verifier
from libs.clock import Clock
from libs.errors import AccessDenied, Unauthenticated
from libs.principal import Operator, System, User
from libs.rpc.call import SERVICE_TOKEN, USER_TOKEN, Call
from libs.rpc.errors import InvalidUserToken
from libs.rpc.policy import ROLES, Access, Policy

OPERATOR_SCOPE = "operator"
_KEPT_USERS = 8192


class Authenticator:
    """Establishes the principal of each call.

    verifier: for user tokens of this service's audience, None when no method needs one. service_verifier: auth's alone.
    operator: whom the inner end of the local operator socket serves (`uid:1000`), "" on every other server.
    """

    def __init__(
        self,
        *,
        verifier: Verifier | None,
        service_verifier: ServiceVerifier | None,
        operator: str,
        now: Clock,
        refused: Callable[[str], None],
    ) -> None:
        self._verifier = verifier
        self._service_verifier = service_verifier
        self._operator = operator
        self._now = now
        self._refused = refused
        self._users: dict[str, tuple[Claims, User]] = {}

    def faults(self, method: str, policy: Policy) -> list[str]:
        """Why a method with this policy cannot be served here; empty when it can."""
        if policy.access in ROLES and self._verifier is None:
            return [f"{method} needs a user, and the server has no verifier of user tokens"]
        if policy.access is Access.OPERATOR and self._verifier is None and not self._operator:
            return [f"{method} needs an operator, and the server has neither a verifier nor the operator socket"]
        if policy.access is Access.SERVICE and self._service_verifier is None:
            return [f"{method} needs a service, and the server has no verifier of service tokens"]
        return []

    def check(self, policy: Policy) -> Callable[[Call], None]:
        """The check of a method with this policy: sets the call's principal and user, or raises."""
        if policy.access is Access.SERVICE:
            return self._service
        if policy.access is Access.OPERATOR:
            return self._local_operator if self._operator else self._remote_operator
        if policy.access is Access.PUBLIC:
            return self._anyone
        roles = ROLES[policy.access]
        return lambda call: self._signed_in(call, roles)

    def _anyone(self, call: Call) -> None:
        claims = self._claims(call) if self._verifier is not None else None
        if claims is not None:
            call.user = call.principal = self._user(claims)

    def _signed_in(self, call: Call, roles: frozenset[str]) -> None:
        claims = self._claims(call)
        if claims is None:
            raise Unauthenticated("Sign in first.")
        call.user = call.principal = self._user(claims)
        if claims.role not in roles:
            raise AccessDenied("Your role in the organization does not allow this.", role=claims.role)

    def _remote_operator(self, call: Call) -> None:
        claims = self._claims(call)
        if claims is None:
            raise Unauthenticated("Sign in as an operator first.")
        if OPERATOR_SCOPE not in claims.scopes:
            raise AccessDenied("Only an operator may do this.")
        call.user = self._user(claims)
        call.principal = Operator(claims.user_id)

    def _local_operator(self, call: Call) -> None:
        call.principal = Operator(self._operator)

    def _service(self, call: Call) -> None:
        token = self._one(call, SERVICE_TOKEN)
        if not token:
            raise Unauthenticated("A service token is needed.")
        if self._service_verifier is None:
            raise AccessDenied("Services are not served here.")
        try:
            call.principal = System(self._service_verifier.verify(token, self._now()))
        except TokenError as fault:
            raise self._not_believed(str(fault)) from None

    def _claims(self, call: Call) -> Claims | None:
        token = self._one(call, USER_TOKEN)
        if not token:
            return None
        if self._verifier is None:
            raise self._not_believed("this server believes no user tokens")
        try:
            return self._verifier.verify(token, self._now())
        except TokenError as fault:
            raise self._not_believed(str(fault)) from None

    def _user(self, claims: Claims) -> User:
        """The user of *claims*; kept while the verifier keeps the claims, since every call needs it."""
        kept = self._users.get(claims.id)
        if kept is not None and kept[0] is claims:
            return kept[1]
        made = User(claims.organization_id, claims.user_id, claims.session_id, claims.role, claims.scopes, claims.actor)
        if len(self._users) >= _KEPT_USERS:
            self._users.clear()
        self._users[claims.id] = (claims, made)
        return made

    def _one(self, call: Call, header: str) -> str:
        """The one value of *header*, "" when it is absent; anything but exactly one plain value is a forgery."""
        headers = call.headers
        values = headers.get(header)
        if f"{header}-bin" in headers:
            raise self._not_believed(f"{header}-bin was sent")
        if values is None:
            return ""
        value = values[0]
        if len(values) != 1 or not isinstance(value, str) or not value or "," in value or " " in value:
            raise self._not_believed(f"{header} was not there exactly once")
        return value

    def _not_believed(self, why: str) -> InvalidUserToken:
        self._refused(why)
        return InvalidUserToken("The token on this call is not valid here.")
