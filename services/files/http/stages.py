"""What happens to every request, in this order: correlation, trace, metric, errors, policy and token, the route."""

import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.usertoken import TokenError, Verifier
from holdfast.usertoken.interceptor import one_token
from libs.clock import Clock
from libs.errors import AccessDenied, AppError, Kind, Unauthenticated, Unavailable
from libs.observability import context, log
from libs.observability.metric import Metrics
from libs.observability.trace import Tracer
from libs.principal import User
from libs.rpc import policy
from libs.rpc.errors import InvalidUserToken, masked
from services.files.http.answer import refusal

PREFIX = "/v1/files/"
ROUTE = "/v1/files/{path}"
Handle = Callable[[Request, User], Awaitable[ASGIApp]]
_log = log.get(__name__)


class Draining(AppError):
    """The server is stopping; another one answers."""

    kind, reason = Unavailable.kind, "DRAINING"


class NoRoute(AppError):
    """Nothing is served at this path."""

    kind, reason = Kind.NOT_FOUND, "UNIMPLEMENTED"


class MethodNotAllowed(AppError):
    """The path is served, this method is not."""

    kind, reason = Kind.UNIMPLEMENTED, "UNIMPLEMENTED"
    http_status = 405


class Stages:
    """The ASGI application. handlers: by method; each gives back the answer to send.

    refusing: asked before each request; true when the server drains.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handle],
        *,
        verifier: Verifier,
        now: Clock,
        metrics: Metrics,
        tracer: Tracer,
        refusing: Callable[[], bool],
    ) -> None:
        self._handlers, self._verifier, self._now = handlers, verifier, now
        self._metrics, self._tracer, self._refusing = metrics, tracer, refusing
        metrics.declare_http([ROUTE])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        request_id = context.accept(request.headers.get("x-request-id", ""))
        answered = _Answered(send, request_id)
        began = time.perf_counter()
        traceparent = request.headers.get("traceparent", "")
        span = self._tracer.span(f"{request.method} {ROUTE}", kind="server", traceparent=traceparent)
        with context.bound(request=request_id), span:
            try:
                await self._answer(request, scope, receive, answered, request_id)
            finally:
                self._metrics.http_handled(ROUTE, request.method, answered.status, time.perf_counter() - began)

    async def _answer(
        self, request: Request, scope: Scope, receive: Receive, answered: "_Answered", request_id: str
    ) -> None:
        try:
            answer = await self._handle(request)
            await answer(scope, receive, answered)
        except ClientDisconnect:
            _log.info("client left", method=request.method)
        except Exception as fault:
            if not isinstance(fault, AppError):
                _log.error("request failed", method=request.method, exc_info=fault)
            if answered.status:
                # The head is out: only a cut connection tells the client that the body is not whole.
                raise
            answer = refusal(masked(fault), request_id)
            if request.method == "PUT":
                # The body was not read to its end, so nothing behind it on this connection can be.
                answer.headers["connection"] = "close"
            await answer(scope, receive, answered)

    async def _handle(self, request: Request) -> ASGIApp:
        if self._refusing():
            raise Draining("The server is stopping; connect again.", retry_after_seconds=1.0)
        target = request.scope["raw_path"].decode("latin-1")
        route = policy.route(request.method, target)
        handle = self._handlers.get(request.method)
        if not target.startswith(PREFIX):
            raise NoRoute("Nothing is served here.")
        if route is None or handle is None:
            raise MethodNotAllowed("Only PUT, GET and HEAD are served here.")
        return await handle(request, self._caller(request, route))

    def _caller(self, request: Request, route: policy.RoutePolicy) -> User:
        """The user whose token came exactly once and was made for this service. Any fault denies."""
        try:
            token = one_token(request.headers.items())
            if not token:
                raise Unauthenticated("Sign in first.")
            claims = self._verifier.verify(token, self._now())
        except TokenError as fault:
            _log.warning("token not believed", why=str(fault))
            raise InvalidUserToken("The token on this call is not valid here.") from None
        if claims.role not in policy.ROLES[route.access]:
            raise AccessDenied("Your role in the organization does not allow this.", role=claims.role)
        return User(claims.organization_id, claims.user_id, claims.session_id, claims.role, claims.scopes, claims.actor)


class _Answered:
    """Sends, adds the request id, and remembers the status that went out (0: none yet)."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [(name, value) for name, value in message["headers"] if name != b"x-request-id"]
            message = {**message, "headers": [*headers, (b"x-request-id", self._request_id.encode())]}
        await self._send(message)
