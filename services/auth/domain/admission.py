"""The rules of a route as the edge's question meets them: content type, Origin, who may, CSRF. Source: requirements
S6, T10; ASVS 5.0 3.5.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from libs.errors import AccessDenied, Unauthenticated
from services.auth.domain import csrf
from services.auth.domain.credential import ACCESS_COOKIE, REFRESH_COOKIE
from services.auth.domain.errors import ContentTypeNotAllowed, CsrfTokenInvalid, OriginNotAllowed
from services.auth.domain.keyring import Key
from services.auth.domain.origin import From, classify
from services.auth.domain.people import Standing

GRPC = "application/grpc"
JSON = "application/json"


class Needs(Enum):
    """What a route asks of its caller, from the contract's access."""

    NOTHING = "nothing"
    ROLE = "role"
    OPERATOR = "operator"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Rule:
    """A route's declaration. audience: the service behind it. json: whether the edge makes gRPC of JSON for it.

    content_types: those an HTTP route takes, empty for any.
    """

    audience: str
    needs: Needs
    roles: frozenset[str]
    writes: bool
    grpc: bool
    json: bool = False
    content_types: frozenset[str] = frozenset()
    refreshes: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """The edge's question: a route and the headers that decide, "" where absent."""

    rule: Rule
    authorization: str
    cookie: str
    origin: str
    referer: str
    content_type: str
    csrf_token: str

    @property
    def audience(self) -> str:
        """The service the user token is for."""
        return self.rule.audience

    @property
    def public(self) -> bool:
        """Whether nobody need be signed in."""
        return self.rule.needs is Needs.NOTHING

    @property
    def reads_cookie(self) -> bool:
        """Whether the method itself has to see the refresh cookie."""
        return self.rule.refreshes


@dataclass(frozen=True, slots=True)
class Credential:
    """What the caller shows. by_cookie: the browser attached it by itself, so the page has to be asked about."""

    text: str
    by_cookie: bool

    def __repr__(self) -> str:
        return f"Credential(by_cookie={self.by_cookie})"


@dataclass(frozen=True, slots=True)
class Guard:
    """The installation's own part of the rules. allowed_origins: (scheme, host, port), compared exactly."""

    allowed_origins: frozenset[tuple[str, str, int]]
    csrf_key: Key

    def before(self, ask: Ask) -> None:
        """What can be said without knowing who calls. Raises AccessDenied, ContentTypeNotAllowed, OriginNotAllowed."""
        if ask.rule.needs is Needs.NEVER:
            raise AccessDenied("This method is not for callers from outside.")
        _check_content_type(ask)
        said = classify(ask.origin, ask.referer, self.allowed_origins)
        cookie_writes = ask.rule.refreshes and cookie(ask.cookie, REFRESH_COOKIE) is not None
        if said is From.FOREIGN or (cookie_writes and said is From.UNSAID):
            raise OriginNotAllowed("Calls from this page are not allowed.")

    def after(self, ask: Ask, shown: Credential, who: Standing, *, now: datetime) -> None:
        """What needs to know who calls. Raises AccessDenied, OriginNotAllowed, CsrfTokenInvalid."""
        rule = ask.rule
        if rule.needs is Needs.OPERATOR and not who.operator:
            raise AccessDenied("Only an operator may do this.")
        if rule.needs is Needs.ROLE and who.role not in rule.roles:
            raise AccessDenied("Your role in the organization does not allow this.", role=who.role)
        if not (rule.writes and shown.by_cookie):
            return
        if classify(ask.origin, ask.referer, self.allowed_origins) is not From.ALLOWED:
            raise OriginNotAllowed("A call with cookies has to say which page makes it.")
        if not csrf.valid(self.csrf_key, ask.csrf_token, user_id=who.user_id, session_id=who.session_id, now=now):
            raise CsrfTokenInvalid("The CSRF token is missing, expired or another session's: GetMe gives a new one.")


def credential(ask: Ask) -> Credential | None:
    """The bearer token, or else the session cookie; None when there is neither. Raises Unauthenticated when it cannot
    be told.
    """
    if ask.authorization:
        scheme, _, token = ask.authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or "," in token:
            raise Unauthenticated("The authorization header is not one bearer token.")
        return Credential(token.strip(), by_cookie=False)
    found = cookie(ask.cookie, ACCESS_COOKIE)
    return None if found is None else Credential(found, by_cookie=True)


def cookie(header: str, name: str) -> str | None:
    """The value of the cookie *name*, None when absent. Raises Unauthenticated when it is there twice: somebody
    planted one.
    """
    found = [value for key, _, value in (pair.strip().partition("=") for pair in header.split(";")) if key == name]
    if len(found) > 1:
        raise Unauthenticated("The session cookie is there more than once.")
    return found[0] if found else None


def _check_content_type(ask: Ask) -> None:
    media = ask.content_type.partition(";")[0].strip().lower()
    if ask.rule.grpc:
        fits = media == GRPC or media.startswith((f"{GRPC}+", f"{GRPC}-web")) or (ask.rule.json and media == JSON)
    else:
        fits = not ask.rule.content_types or media in ask.rule.content_types
    if not fits:
        raise ContentTypeNotAllowed("This route does not take this content type.", content_type=media[:100])
