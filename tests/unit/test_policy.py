"""The contract says of every method who may call it, and nothing is served that does not."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from libs.rpc import policy
from libs.rpc.policy import Access, Category, Effect, UndeclaredPolicy


@pytest.mark.control(
    "T10", "every method and route declares who may call, whether it writes, its category and its audit"
)
def test_every_method_and_route_is_declared() -> None:
    assert policy.undeclared() == []
    methods = policy.all_methods()
    assert len(methods) == sum(len(s.methods) for file in policy.CONTRACT for s in file.services_by_name.values())
    assert methods["/holdfast.files.v1.FileService/UploadFile"].client_streaming
    sign_in = methods["/holdfast.auth.v1.AuthService/SignIn"]
    assert (sign_in.access, sign_in.effect, sign_in.category, sign_in.audited, sign_in.audience) == (
        Access.PUBLIC, Effect.WRITE, Category.AUTH, True, "auth",
    )  # fmt: skip
    for route in policy.HTTP_ROUTES:
        assert (route.methods, route.prefix, route.audience) != (frozenset(), "", "")


def _undeclared_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="holdfast.x.v1", syntax="proto3")
    file.message_type.add(name="Empty")
    service = file.service.add(name="XService")
    service.method.add(name="Open", input_type=".holdfast.x.v1.Empty", output_type=".holdfast.x.v1.Empty")
    return file


@pytest.mark.control("T10", "an undeclared method refuses to start")
def test_a_method_without_a_policy_is_named_and_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_undeclared_file().SerializeToString())
    monkeypatch.setattr(policy, "CONTRACT", (*policy.CONTRACT, pool.FindFileByName("x.proto")))
    policy.all_methods.cache_clear()
    try:
        with pytest.raises(
            UndeclaredPolicy, match=r"/holdfast.x.v1.XService/Open does not declare access, effect, category"
        ):
            policy.all_methods()
    finally:
        policy.all_methods.cache_clear()


def test_a_method_that_is_not_ours_has_no_policy() -> None:
    with pytest.raises(UndeclaredPolicy):
        policy.of("/somebody.Else/Method")
    assert policy.of("/grpc.health.v1.Health/Check").access is Access.PUBLIC


def test_a_route_is_found_by_its_whole_path() -> None:
    found = policy.route("PUT", "/v1/files/a/b.txt")
    assert found is not None
    assert (found.effect, found.audience) == (Effect.WRITE, "files")
    assert policy.route("GET", "/v1/events") is not None
    for method, path in (
        ("POST", "/v1/files/a"),
        ("GET", "/v1/eventsx"),
        ("GET", "/v1/files"),
        ("DELETE", "/v1/events"),
    ):
        assert policy.route(method, path) is None
