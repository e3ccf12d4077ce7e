"""Every call of every shape runs through the stages, and nothing else reaches the caller."""

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from holdfast.files.v1 import file_service_pb2 as pb
from libs.rpc import stages
from libs.rpc.stages import ORDER, assert_order
from tests.support import tokens
from tests.support.waiting import until
from tests.support.wire import NAME, PARENT, QUICK, Echo, ReaderWriter, Wire, refused, serving, signed, told
from tests.unit.lines import Lines

HEADER = pb.UploadFileRequest(header=pb.UploadHeader(parent=PARENT, path="a", size_bytes=2))


def _upload(*messages: pb.UploadFileRequest) -> list[pb.UploadFileRequest]:
    return [HEADER, *messages]


@pytest.mark.parametrize("servicer", [Echo, ReaderWriter])
async def test_every_shape_and_both_streaming_styles_answer(servicer: type[Echo]) -> None:
    async with serving(servicer()) as wire:
        token = (signed(),)
        assert (await wire.get(*token)).file.name == NAME
        down = wire.stub.DownloadFile(pb.DownloadFileRequest(name=NAME), metadata=token)
        assert [answer.data async for answer in down] == [b"1", b"2", b"3"]
        up = wire.stub.UploadFile(_upload(pb.UploadFileRequest(data=b"hi")), metadata=token)
        assert (await up).file.size_bytes == 2
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        both = ServerReflectionStub(wire.channel).ServerReflectionInfo(iter(asked))
        assert "holdfast.files.v1.FileService" in [
            service.name async for answer in both for service in answer.list_services_response.service
        ]


@pytest.mark.control("T1", "a forged, expired or foreign user token is refused on every shape")
@pytest.mark.parametrize("servicer", [Echo, ReaderWriter])
async def test_no_shape_answers_without_a_token(servicer: type[Echo]) -> None:
    async with serving(servicer()) as wire:
        with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
            await wire.get()
        with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
            await told(anext(aiter(wire.stub.DownloadFile(pb.DownloadFileRequest(name=NAME)))))
        with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
            await told(wire.stub.UploadFile(_upload()))
        assert wire.servicer.principals == []


@pytest.mark.control("T11", "every violation of a request is told at once, by field")
@pytest.mark.parametrize("servicer", [Echo, ReaderWriter])
async def test_each_message_of_a_stream_is_held_against_its_bounds(servicer: type[Echo]) -> None:
    async with serving(servicer()) as wire:
        broken = pb.UploadFileRequest(header=pb.UploadHeader(parent="x", size_bytes=-1, sha256=b"short", path="p"))
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT") as found:
            await told(wire.stub.UploadFile([HEADER, broken], metadata=(signed(),)))
        fields = {each.field for each in found.value.violations}
        assert fields == {"header.parent", "header.size_bytes", "header.sha256"}


async def test_bytes_that_are_no_message_are_an_invalid_argument() -> None:
    async with serving() as wire:
        call = _raw(wire, "/holdfast.files.v1.FileService/GetFile")
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await told(call(b"\xff\xff\xff", metadata=(signed(),)))


async def test_a_stranger_is_refused_before_the_bytes_are_looked_at() -> None:
    async with serving() as wire:
        call = _raw(wire, "/holdfast.files.v1.FileService/GetFile")
        with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
            await told(call(b"\xff\xff\xff"))


@pytest.mark.parametrize("method", ["GetFile", "DownloadFile"])
async def test_the_text_of_an_unknown_exception_stays_in_the_log(method: str, lines: Lines) -> None:
    async with serving() as wire:
        name = "organizations/org1/users/user1/files/boom"
        metadata = (signed(), ("x-request-id", "find-me"))
        if method == "GetFile":
            call = wire.stub.GetFile(pb.GetFileRequest(name=name), metadata=metadata)
        else:
            stream = wire.stub.DownloadFile(pb.DownloadFileRequest(name=name), metadata=metadata)
            assert (await stream.read()).data == b"1"
            call = stream.read()
        fault = await _fault_of(call)
        assert fault.code() is grpc.StatusCode.INTERNAL
        assert "hunter2" not in str(fault)
        status = _status(fault)
        assert b"hunter2" not in status.SerializeToString()
        logged = [line for line in lines.read() if line["event"] == "call failed"]
        assert [line["request_id"] for line in logged] == ["find-me"]


async def test_an_error_has_exactly_one_error_info_and_its_request_id() -> None:
    async with serving() as wire:
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await wire.stub.GetFile(
                pb.GetFileRequest(name="organizations/o/users/u/files/busy"),
                metadata=(signed(), ("x-request-id", "abc-1")),
            )
        status = _status(found.value)
        kinds = [detail.type_url.rpartition(".")[2] for detail in status.details]
        assert sorted(kinds) == ["ErrorInfo", "RequestInfo", "RetryInfo"]
        info, request, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RequestInfo(),
            error_details_pb2.RetryInfo(),
        )
        for detail in status.details:
            _ = detail.Unpack(info) or detail.Unpack(request) or detail.Unpack(retry)
        assert (info.reason, info.domain, dict(info.metadata)) == ("RATE_LIMITED", "holdfast.dev", {"calls": "7"})
        assert request.request_id == "abc-1"
        assert retry.retry_delay.ToTimedelta().total_seconds() == 2.5


@pytest.mark.control("A4", "a request id goes out with the answer")
async def test_a_request_id_goes_in_bounded_and_out() -> None:
    async with serving() as wire:
        for sent, kept in (("abc-1", True), ("x" * 200, False), ("a b", False)):
            call = wire.stub.GetFile(pb.GetFileRequest(name=NAME), metadata=(signed(), ("x-request-id", sent)))
            await call
            answered = dict(await call.trailing_metadata())["x-request-id"]
            assert (answered == sent) is kept
            assert wire.servicer.ids[-1][0] == answered


async def test_a_trace_is_taken_up_only_when_it_is_one() -> None:
    async with serving() as wire:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        await wire.get(signed(), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))
        await wire.get(signed(), ("traceparent", f"00-{'z' * 32}-00f067aa0ba902b7-01"))
        assert [found[1] for found in wire.servicer.ids] == [trace, ""]


async def test_an_unknown_method_is_unimplemented_with_details() -> None:
    async with serving() as wire:
        for path in ("/holdfast.files.v1.FileService/Nothing", "/holdfast.files.v1.FileService/ListFiles"):
            with refused("UNIMPLEMENTED", "UNIMPLEMENTED") as found:
                asked = pb.ListFilesRequest(parent=PARENT).SerializeToString()
                await told(_raw(wire, path)(asked, metadata=(signed(),)))
            assert found.value.request_id


async def test_a_unary_call_does_not_outlive_the_servers_bound() -> None:
    async with serving(limits=QUICK) as wire:
        with refused("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"):
            await wire.get(signed(), name="organizations/o/users/u/files/wait", timeout=60)
        assert wire.servicer.cancelled.is_set()
        assert (await wire.get(signed())).file.name == NAME


async def test_a_caller_that_leaves_cancels_its_call() -> None:
    async with serving() as wire:
        call = wire.stub.GetFile(pb.GetFileRequest(name="organizations/o/users/u/files/wait"), metadata=(signed(),))
        await wire.servicer.entered.wait()
        call.cancel()
        async with asyncio.timeout(10):
            await wire.servicer.cancelled.wait()


async def test_calls_are_counted_by_method_and_code() -> None:
    async with serving() as wire:
        await wire.get(signed())
        with refused("UNAUTHENTICATED", "UNAUTHENTICATED"):
            await wire.get()
        registry = wire.metrics.registry
        method = "holdfast.files.v1.FileService/GetFile"

        def handled(code: str) -> float | None:
            labels = {"rpc_method": method, "rpc_response_status_code": code}
            return registry.get_sample_value("rpc_server_handled_total", labels)

        # A refusal reaches its caller before the server has done with it.
        await until(lambda: handled("UNAUTHENTICATED") == 1, "the refusal's count")
        assert [handled(code) for code in ("OK", "UNAUTHENTICATED", "INTERNAL")] == [1, 1, 0]
        assert registry.get_sample_value("rpc_server_started_total", {"rpc_method": method}) == 2


@pytest.mark.control("A4", "a credential does not reach the log")
async def test_a_refused_token_is_not_in_the_log_but_the_refusal_is(lines: Lines) -> None:
    async with serving() as wire:
        forged = tokens.user_token("events")
        with refused("UNAUTHENTICATED", "INVALID_USER_TOKEN"):
            await wire.get(("x-user-token", forged))
        assert "the signature is not right" in json.dumps(lines.read())
        assert forged not in json.dumps(lines.read())


def test_stages_in_another_order_or_missing_do_not_start() -> None:
    def named(*names: str) -> list[stages.Stage]:
        made: list[stages.Stage] = []
        for name in names:
            stage = stages.Correlation()
            stage.name = name
            made.append(stage)
        return made

    assert_order(named(*ORDER))
    for wrong in (ORDER[:-1], (*ORDER[1:], ORDER[0]), (*ORDER, ORDER[0])):
        with pytest.raises(ValueError, match="stages have to be"):
            assert_order(named(*wrong))


def _raw(wire: Wire, path: str) -> Any:
    """The method without its stub: bytes in, bytes out."""
    channel: Any = wire.channel
    return channel.unary_unary(path)


async def _fault_of(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as found:
        await call
    return found.value


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    sent: Any = error.trailing_metadata()
    return status_pb2.Status.FromString(dict(sent)["grpc-status-details-bin"])
