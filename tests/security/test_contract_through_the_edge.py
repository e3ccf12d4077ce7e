"""The policy and tenant matrices, derived from the contract and asked through the real edge."""

import grpc
import pytest
from google.protobuf.message import Message

from deploy.stack.edge import Edge
from libs.rpc import policy
from tests.support import samples
from tests.support.stack import Person, Stack

METHODS = policy.all_methods()
PUBLIC = [path for path, method in METHODS.items() if method.access == policy.Access.PUBLIC]
USER = [path for path, method in METHODS.items() if method.access == policy.Access.USER]
OPERATOR = [path for path, method in METHODS.items() if method.access == policy.Access.OPERATOR]
SERVICE = [path for path, method in METHODS.items() if method.access == policy.Access.SERVICE]
NAMED = [
    path
    for path, request in samples.requests("organizations/o/users/u").items()
    if path in USER and samples.named_for_a_user(request)
]


def answer(stack: Stack, token: str, path: str, request: Message) -> grpc.StatusCode:
    """The code that one call through the edge ends with; a stream is followed to its first message."""
    method = METHODS[path]
    trust = grpc.ssl_channel_credentials(stack.ca_file.read_bytes())
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.secure_channel(stack.edge_url.removeprefix("https://"), trust) as channel:
        shape = (
            ("stream" if method.client_streaming else "unary")
            + "_"
            + ("stream" if method.server_streaming else "unary")
        )
        call = getattr(channel, shape)(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=samples.answer_class(path).FromString,
        )
        try:
            reply = call(iter([request]) if method.client_streaming else request, metadata=metadata, timeout=30)
            for _ in reply if method.server_streaming else ():
                break
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def ada(stack: Stack) -> Person:
    """A signed-in person."""
    return stack.person()


@pytest.fixture(scope="module")
def bo(stack: Stack) -> Person:
    """A signed-in person of another organization."""
    return stack.person()


@pytest.mark.control("T10", "the cross-role and cross-tenant matrix is generated from the contract")
def test_every_method_has_a_sample() -> None:
    assert set(samples.requests("organizations/o/users/u")) == set(METHODS)
    assert PUBLIC
    assert USER
    assert OPERATOR
    assert SERVICE
    assert NAMED


@pytest.mark.stack
@pytest.mark.control("T10", "a method without a credential answers only when it is declared public")
@pytest.mark.parametrize("path", [*USER, *OPERATOR])
def test_a_method_that_is_not_public_refuses_the_anonymous(stack: Stack, path: str) -> None:
    request = samples.requests("organizations/o/users/u")[path]
    assert answer(stack, "", path, request) == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.stack
@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_method_reaches_its_service_without_a_credential(stack: Stack, path: str) -> None:
    """The positive control: SignIn and RefreshSession say UNAUTHENTICATED themselves, so the reason is looked at."""
    request = samples.requests("organizations/o/users/u")[path]
    edge = Edge(stack.edge_url, str(stack.ca_file))
    reason = stack.refusal_reason(edge, path, request)
    assert reason not in ("UNAUTHENTICATED", "ACCESS_DENIED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED")


@pytest.mark.stack
@pytest.mark.control("T10", "a user without the operator scope is refused every operator method")
@pytest.mark.parametrize("path", OPERATOR)
def test_an_operators_method_refuses_a_user(stack: Stack, ada: Person, path: str) -> None:
    assert answer(stack, ada.token, path, samples.requests(ada.user)[path]) == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.stack
@pytest.mark.control("T10", "a method between services has no route at the edge")
@pytest.mark.parametrize("path", SERVICE)
def test_a_services_method_has_no_route(stack: Stack, ada: Person, path: str) -> None:
    assert answer(stack, ada.token, path, samples.requests(ada.user)[path]) == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.stack
@pytest.mark.control("T4", "another tenant's name is refused at every method that takes a name")
@pytest.mark.parametrize("path", NAMED)
def test_another_tenants_name_is_refused(stack: Stack, ada: Person, bo: Person, path: str) -> None:
    foreign, own = samples.requests(ada.user)[path], samples.requests(bo.user)[path]
    assert answer(stack, bo.token, path, own) in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)
    assert answer(stack, bo.token, path, foreign) == grpc.StatusCode.PERMISSION_DENIED
