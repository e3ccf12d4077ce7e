"""Envoy's ext_authz in its HTTP form: a request for `/<audience><original path>`, answered by status and headers.

200 lets the call through with `x-user-token`, and names the headers that must not go on. Anything else is the caller's
answer: a denial carries grpc-status, grpc-message and grpc-status-details-bin for gRPC content types, and JSON for the
rest. Any fault denies with 503.
"""

import base64
import json
from dataclasses import replace
from urllib.parse import quote

from libs.errors import AppError, Unavailable
from libs.http1 import Request, Response
from libs.observability import context, log
from libs.rpc import errors
from libs.rpc.policy import ROLES, Access, Effect, MethodPolicy, Policy, RoutePolicy, all_methods, route
from services.auth.domain.admission import GRPC, Ask, Needs, Rule
from services.auth.domain.errors import ContentTypeNotAllowed, NoSuchRoute
from services.auth.ops.admission import Admission, Admitted

REFRESH = "/holdfast.auth.v1.AuthService/RefreshSession"
_REMOVE = "x-envoy-auth-headers-to-remove"
_NEEDS = {Access.PUBLIC: Needs.NOTHING, Access.OPERATOR: Needs.OPERATOR, Access.SERVICE: Needs.NEVER}
_log = log.get(__name__)


class Check:
    """The two handlers libs.http1.Server wants: `quick` without a task, `handle` when rows have to be read."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._methods = {name: _method_rule(name, found) for name, found in all_methods().items()}

    def quick(self, request: Request) -> Response | None:
        """The answer when it is known or a denial needs no row; None otherwise."""
        try:
            found = self._admission.quick(self._ask(request))
        except AppError as error:
            return denied(request, error)
        return None if found is None else allowed(found)

    async def handle(self, request: Request) -> Response:
        """The answer, whatever it takes."""
        with context.bound(request=context.accept(request.header("x-request-id"))):
            try:
                return allowed(await self._admission.decide(self._ask(request)))
            except AppError as error:
                return denied(request, error)

    def failed(self, request: Request, error: Exception) -> Response:
        """For libs.http1.Server's on_error: a fault of ours denies."""
        _log.error("check_failed", exc_info=error)
        return denied(request, Unavailable("The call could not be checked.", retry_after_seconds=1.0))

    def _ask(self, request: Request) -> Ask:
        header = request.header
        return Ask(
            rule=self._find(request),
            authorization=header("authorization"),
            cookie="; ".join(request.values("cookie")),
            origin=header("origin"),
            referer=header("referer"),
            content_type=_content_type(request),
            csrf_token=header("x-csrf-token"),
        )

    def _find(self, request: Request) -> Rule:
        """The rule of the route asked about; the edge's own idea of the audience has to agree with the contract's."""
        audience, _, rest = request.path.removeprefix("/").partition("/")
        path = f"/{rest}"
        found = self._methods.get(path) if request.method == "POST" else None
        if found is None:
            declared = route(request.method, path)
            found = None if declared is None else _route_rule(declared)
        if found is None or found.audience != audience:
            raise NoSuchRoute("There is no such method here.")
        return found


def allowed(found: Admitted) -> Response:
    """Let the call through. The caller's own credentials stay here, save where the method itself reads its cookie."""
    removed = "authorization" if found.keep_cookies else "cookie,authorization"
    headers = [(_REMOVE, removed)]
    if found.user_token:
        headers.append(("x-user-token", found.user_token))
    return Response(200, headers)


def denied(request: Request, error: AppError) -> Response:
    """The caller's answer, in the form its content type reads."""
    request_id = context.accept(request.header("x-request-id"))
    status = _status(error)
    headers = _retry(error)
    if status == 401:
        headers.append(("www-authenticate", 'Bearer realm="holdfast"'))
    if _content_type(request).lower().startswith(GRPC):
        return Response(status, [*headers, *_grpc(error, request_id)], error.message.encode())
    body = json.dumps(errors.body(error, request_id), ensure_ascii=False).encode()
    return Response(status, [*headers, ("content-type", "application/json")], body)


def _status(error: AppError) -> int:
    """The HTTP status of a denial. Never a 5xx for what the caller did: to Envoy that is a check that failed, a 503."""
    told = {ContentTypeNotAllowed: 415, NoSuchRoute: 404}
    return told.get(type(error)) or errors.http_status(error.kind)


def _content_type(request: Request) -> str:
    """The caller's content type, which the edge tells by another name: see deploy.envoy.config.told_content_type."""
    return request.header("x-original-content-type") or request.header("content-type")


def _grpc(error: AppError, request_id: str) -> list[tuple[str, str]]:
    details = errors.to_status(error, request_id).SerializeToString()
    return [
        ("content-type", GRPC),
        ("grpc-status", str(errors.code(error.kind).value[0])),
        ("grpc-message", quote(error.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")),
        (errors.DETAILS, base64.b64encode(details).rstrip(b"=").decode()),
    ]


def _retry(error: AppError) -> list[tuple[str, str]]:
    seconds = errors.retry_after_seconds(error)
    return [] if seconds is None else [("retry-after", str(max(1, round(seconds))))]


def _method_rule(name: str, found: MethodPolicy) -> Rule:
    unary = not (found.client_streaming or found.server_streaming)
    return replace(_rule(found, found.audience, grpc=True), json=unary, refreshes=name == REFRESH)


def _route_rule(declared: RoutePolicy) -> Rule:
    return replace(_rule(declared, declared.audience, grpc=False), content_types=declared.content_types)


def _rule(found: Policy, audience: str, *, grpc: bool) -> Rule:
    return Rule(
        audience=audience,
        needs=_NEEDS.get(found.access, Needs.ROLE),
        roles=ROLES.get(found.access, frozenset()),
        writes=found.effect is Effect.WRITE,
        grpc=grpc,
    )
