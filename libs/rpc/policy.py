"""What every method and HTTP route declares about itself: who may call, whether it changes state, its rate category,
its audit.

Methods carry the declaration in the contract (`holdfast.common.v1.policy`); the few HTTP routes declare the same in
HTTP_ROUTES.
Enforcement, CSRF, rate limits and the generated tests all read this one place (requirement T10).
"""

from dataclasses import dataclass
from enum import Enum
from functools import cache

from google.protobuf import descriptor

from holdfast.auth.v1 import auth_service_pb2, token_service_pb2
from holdfast.backup.v1 import backup_service_pb2, evidence_service_pb2, upkeep_service_pb2
from holdfast.common.v1 import policy_pb2
from holdfast.events.v1 import event_service_pb2
from holdfast.files.v1 import file_service_pb2
from holdfast.jobs.v1 import job_service_pb2

CONTRACT: tuple[descriptor.FileDescriptor, ...] = (
    auth_service_pb2.DESCRIPTOR,
    token_service_pb2.DESCRIPTOR,
    backup_service_pb2.DESCRIPTOR,
    evidence_service_pb2.DESCRIPTOR,
    upkeep_service_pb2.DESCRIPTOR,
    event_service_pb2.DESCRIPTOR,
    file_service_pb2.DESCRIPTOR,
    job_service_pb2.DESCRIPTOR,
)
_SERVED_BY = {"jobs": "backup"}
"""Who serves a package of the contract that is not named after its service."""


class Access(Enum):
    """Who may call; a table, not an ordering."""

    PUBLIC = "public"
    USER = "user"
    ORG_ADMIN = "org_admin"
    ORG_OWNER = "org_owner"
    OPERATOR = "operator"
    SERVICE = "service"


class Effect(Enum):
    """Whether a call changes state."""

    READ = "read"
    WRITE = "write"


class Category(Enum):
    """Which budget of the rate-limit table a call is counted against."""

    AUTH = "auth"
    HEAVY = "heavy"
    EXPORT = "export"
    WRITE = "write"
    DEFAULT = "default"


ROLES: dict[Access, frozenset[str]] = {
    Access.USER: frozenset({"MEMBER", "ADMIN", "OWNER"}),
    Access.ORG_ADMIN: frozenset({"ADMIN", "OWNER"}),
    Access.ORG_OWNER: frozenset({"OWNER"}),
}
"""Which roles satisfy an access that needs a user."""


class UndeclaredPolicy(Exception):
    """A method that does not say who may call it; nothing that serves it may start."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The declaration: who, whether state changes, which budget, whether an audit entry is left."""

    access: Access
    effect: Effect
    category: Category = Category.DEFAULT
    audited: bool = False


@dataclass(frozen=True, slots=True)
class MethodPolicy(Policy):
    """A method of the contract with its declaration; name is `/package.Service/Method`, types are full names."""

    name: str = ""
    audience: str = ""
    request_type: str = ""
    response_type: str = ""
    client_streaming: bool = False
    server_streaming: bool = False


@dataclass(frozen=True, slots=True)
class RoutePolicy(Policy):
    """An HTTP route with its declaration; content_types are those a request with a body may have, empty for any."""

    methods: frozenset[str] = frozenset()
    prefix: str = ""
    audience: str = ""
    content_types: frozenset[str] = frozenset()


HTTP_ROUTES: tuple[RoutePolicy, ...] = (
    RoutePolicy(
        Access.USER, Effect.WRITE, Category.WRITE, audited=True,
        methods=frozenset({"PUT"}), prefix="/v1/files/", audience="files",
    ),
    RoutePolicy(
        Access.USER, Effect.READ, Category.DEFAULT, audited=True,
        methods=frozenset({"GET", "HEAD"}), prefix="/v1/files/", audience="files",
    ),
    RoutePolicy(
        Access.USER, Effect.READ, Category.DEFAULT,
        methods=frozenset({"GET"}), prefix="/v1/events", audience="events",
    ),
)  # fmt: skip

PLUMBING: dict[str, Policy] = {
    "/grpc.health.v1.Health/Check": Policy(Access.PUBLIC, Effect.READ),
    "/grpc.health.v1.Health/Watch": Policy(Access.PUBLIC, Effect.READ),
    "/grpc.health.v1.Health/List": Policy(Access.PUBLIC, Effect.READ),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Policy(Access.PUBLIC, Effect.READ),
}
"""Methods that are not ours and that our servers answer; the edge has no route to them."""


@cache
def all_methods() -> dict[str, MethodPolicy]:
    """Every method of the contract by its path. Raises UndeclaredPolicy naming each method whose policy is not
    complete.
    """
    faults = undeclared()
    if faults:
        raise UndeclaredPolicy("; ".join(faults))
    return {_path(method): _read(method) for method in _methods()}


def of(method: str) -> Policy:
    """The policy of the method with this path. Raises UndeclaredPolicy when there is none."""
    found = all_methods().get(method) or PLUMBING.get(method)
    if found is None:
        raise UndeclaredPolicy(f"{method} is not part of the contract")
    return found


def route(http_method: str, path: str) -> RoutePolicy | None:
    """The policy of an HTTP route (path without query); None when there is no such route."""
    for each in HTTP_ROUTES:
        if http_method in each.methods and _matches(each.prefix, path):
            return each
    return None


def undeclared() -> list[str]:
    """One sentence for each method whose policy misses access, effect or category; empty when the contract is whole."""
    faults = []
    for method in _methods():
        declared = _declared(method)
        missing = [name for name in ("access", "effect", "category") if not getattr(declared, name)]
        if missing:
            faults.append(f"{_path(method)} does not declare {', '.join(missing)}")
    return faults


def _methods() -> list[descriptor.MethodDescriptor]:
    return [method for file in CONTRACT for service in file.services_by_name.values() for method in service.methods]


def _path(method: descriptor.MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _declared(method: descriptor.MethodDescriptor) -> policy_pb2.Policy:
    return method.GetOptions().Extensions[policy_pb2.policy]


def _read(method: descriptor.MethodDescriptor) -> MethodPolicy:
    declared = _declared(method)
    return MethodPolicy(
        access=Access[policy_pb2.Access.Name(declared.access).removeprefix("ACCESS_")],
        effect=Effect[policy_pb2.Effect.Name(declared.effect).removeprefix("EFFECT_")],
        category=Category[policy_pb2.Category.Name(declared.category).removeprefix("CATEGORY_")],
        audited=declared.audited,
        name=_path(method),
        audience=_audience(method),
        request_type=method.input_type.full_name,
        response_type=method.output_type.full_name,
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
    )


def _audience(method: descriptor.MethodDescriptor) -> str:
    package = method.containing_service.full_name.split(".")[1]
    return _SERVED_BY.get(package, package)


def _matches(prefix: str, path: str) -> bool:
    return path.startswith(prefix) if prefix.endswith("/") else path == prefix
