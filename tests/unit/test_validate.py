"""The bounds of the contract are compiled at start and every breach is told at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from holdfast.auth.v1 import auth_service_pb2 as auth
from holdfast.auth.v1 import token_service_pb2 as token
from holdfast.files.v1 import file_service_pb2 as files
from libs.errors import InvalidArgument
from libs.rpc import policy
from libs.rpc.validate import IMAGE, Rules, RulesMissing


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules()


@pytest.mark.control("T11", "every violation of a request is told at once, by field")
def test_every_breach_is_told_with_its_path(rules: Rules) -> None:
    check = rules.compiled("holdfast.auth.v1.CheckSessionsRequest")
    good = token.SessionRef(organization_id="o", user_id="u", session_id="s")
    check(token.CheckSessionsRequest(sessions=[good]).SerializeToString())
    bad = token.SessionRef(organization_id="O", user_id="", session_id="s")
    with pytest.raises(InvalidArgument) as found:
        check(token.CheckSessionsRequest(sessions=[good, bad]).SerializeToString())
    assert [each.field for each in found.value.violations] == ["sessions[1].organization_id", "sessions[1].user_id"]


@pytest.mark.parametrize(
    ("email", "ok"),
    [("a@b", True), ("", False), ("x" * 256, False), ("é" * 255, True)],
    ids=["least", "none", "long", "characters"],
)
def test_a_bound_lies_where_the_contract_puts_it(rules: Rules, email: str, ok: bool) -> None:
    request = auth.SignInRequest(email=email, password="p").SerializeToString()
    check = rules.compiled("holdfast.auth.v1.SignInRequest")
    if ok:
        check(request)
    else:
        with pytest.raises(InvalidArgument):
            check(request)


def test_a_text_with_a_nul_is_refused_and_bytes_with_one_are_not(rules: Rules) -> None:
    check = rules.compiled("holdfast.files.v1.UploadFileRequest")
    header = files.UploadHeader(parent="organizations/o/users/u", path="a", sha256=b"\0" * 32)
    check(files.UploadFileRequest(header=header).SerializeToString())
    check(files.UploadFileRequest(data=b"\0").SerializeToString())
    header.path = "a\0b"
    with pytest.raises(InvalidArgument) as found:
        check(files.UploadFileRequest(header=header).SerializeToString())
    assert [each.field for each in found.value.violations] == ["header.path"]


def test_a_required_choice_and_a_written_rule_hold(rules: Rules) -> None:
    check = rules.compiled("holdfast.files.v1.UploadFileRequest")
    check(files.UploadFileRequest(data=b"x").SerializeToString())
    for wrong in (files.UploadFileRequest(), files.UploadFileRequest(data=b"x" * (1048576 + 1))):
        with pytest.raises(InvalidArgument):
            check(wrong.SerializeToString())


@pytest.mark.control("T11", "a server without the rules of its messages refuses to start")
def test_rules_that_are_absent_stop_the_start(rules: Rules, tmp_path: Path) -> None:
    for content in (None, b"\xffnot a descriptor set"):
        path = tmp_path / "image.binpb"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RulesMissing, match="make protos"):
            Rules(path)
    with pytest.raises(RulesMissing, match=r"no message holdfast\.x\.v1\.Unknown"):
        rules.compiled("holdfast.x.v1.Unknown")


def test_every_request_of_the_contract_compiles(rules: Rules) -> None:
    for method in policy.all_methods().values():
        rules.compiled(method.request_type)


RULES_TAG = b"\xba\x48"
"""Field 1159, length-delimited: how an option of buf.validate begins on the wire."""


def unbounded(message: Descriptor, seen: set[str]) -> Iterator[str]:
    """Text, bytes and lists of our own that anyone may send at any length, by full name."""
    if message.full_name in seen or not message.full_name.startswith("holdfast."):
        return
    seen.add(message.full_name)
    for field in message.fields:
        if field.message_type is not None:
            yield from unbounded(field.message_type, seen)
        open_ended = field.is_repeated or field.type in (field.TYPE_STRING, field.TYPE_BYTES)
        if open_ended and RULES_TAG not in field.GetOptions().SerializeToString():
            yield field.full_name


@pytest.mark.control("T11", "every field of a request has a declared bound")
def test_every_field_of_a_request_has_a_declared_bound() -> None:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(IMAGE.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    seen: set[str] = set()
    types = [pool.FindMessageTypeByName(method.request_type) for method in policy.all_methods().values()]
    assert [name for found in types for name in unbounded(found, seen)] == []
    assert {found.full_name for found in types} < seen
    answer = pool.FindMessageTypeByName("holdfast.auth.v1.VerifyEmailResponse")
    assert list(unbounded(answer, set())) == [
        "holdfast.auth.v1.VerifyEmailResponse.email"
    ]  # the control: it does see one
