"""Every refusal auth makes; the wire's shape of each is decided in libs.rpc.errors."""

from libs.errors import AppError, Kind


class EmailRefused(AppError):
    """The address is not one mail can be sent to, or its domain is a throw-away one."""

    kind, reason = Kind.INVALID, "EMAIL_REFUSED"


class PasswordRefused(AppError):
    """The password is too short, too long or too common."""

    kind, reason = Kind.INVALID, "PASSWORD_REFUSED"


class LinkTokenInvalid(AppError):
    """The mailed token is unknown, used or expired."""

    kind, reason = Kind.INVALID, "LINK_TOKEN_INVALID"


class SignInFailed(AppError):
    """E-mail or password is wrong, or the account is locked or disabled; one answer for all of them."""

    kind, reason = Kind.UNAUTHENTICATED, "SIGN_IN_FAILED"


class EmailNotVerified(AppError):
    """The password was right, and the address has yet to be proven."""

    kind, reason = Kind.PRECONDITION, "EMAIL_NOT_VERIFIED"


class OrganizationRequired(AppError):
    """The person is in more than one organization and named none."""

    kind, reason = Kind.PRECONDITION, "ORGANIZATION_REQUIRED"


class OrganizationNotFound(AppError):
    """The person is not in the organization named, or there is none."""

    kind, reason = Kind.NOT_FOUND, "ORGANIZATION_NOT_FOUND"


class Overloaded(AppError):
    """More passwords wait to be hashed than can be in time."""

    kind, reason = Kind.EXHAUSTED, "OVERLOADED"


class RefreshTokenInvalid(AppError):
    """The refresh token is forged, unknown, or its session has ended."""

    kind, reason = Kind.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID"


class RefreshTokenReused(AppError):
    """A refresh token came back after its successor was in use; its whole session has been ended."""

    kind, reason = Kind.UNAUTHENTICATED, "REFRESH_TOKEN_REUSED"


class SessionEnded(AppError):
    """The credential is genuine and its session is over."""

    kind, reason = Kind.UNAUTHENTICATED, "SESSION_ENDED"


class UserNotFound(AppError):
    """No such user, or one that is disabled."""

    kind, reason = Kind.NOT_FOUND, "USER_NOT_FOUND"


class ExchangeNotAllowed(AppError):
    """The calling service may not act for people at that audience."""

    kind, reason = Kind.FORBIDDEN, "EXCHANGE_NOT_ALLOWED"


class OriginNotAllowed(AppError):
    """The page that made the call is not on the allow-list, or a cookie came without saying which page sent it."""

    kind, reason = Kind.FORBIDDEN, "ORIGIN_NOT_ALLOWED"


class ContentTypeNotAllowed(AppError):
    """The route does not take this content type."""

    kind, reason = Kind.INVALID, "CONTENT_TYPE_NOT_ALLOWED"


class CsrfTokenInvalid(AppError):
    """The CSRF token is missing, expired, forged or another session's."""

    kind, reason = Kind.FORBIDDEN, "CSRF_TOKEN_INVALID"


class NoSuchRoute(AppError):
    """The edge asked about a path that no service declares."""

    kind, reason = Kind.UNIMPLEMENTED, "UNIMPLEMENTED"
