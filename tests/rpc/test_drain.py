"""A server that stops loses nothing it has accepted."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from holdfast.errors import HoldfastError
from holdfast.files.v1 import file_service_pb2 as pb
from holdfast.usertoken import Verifier
from libs.rpc.call import EOF
from libs.rpc.health import NOT_YET, Health, Monitor
from libs.rpc.server import Server, remove_stale
from tests.support import tokens
from tests.support.waiting import until
from tests.support.wire import NAME, refused, serving, signed

WAITING = "organizations/o/users/u/files/wait"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_call_in_flight_is_answered_and_a_new_one_is_sent_elsewhere() -> None:
    async with serving() as wire:
        call = asyncio.create_task(wire.get(signed(), name=WAITING))
        await wire.servicer.entered.wait()
        wire.server.refuse()
        assert (await wire.get(signed())).file.name == NAME
        draining = asyncio.create_task(wire.server.drain(20))
        await until(lambda: wire.server._flight.draining.is_set(), "draining")
        with refused("UNAVAILABLE", "DRAINING") as found:
            await wire.get(signed())
        assert found.value.retry_after_seconds == 1
        assert not draining.done()
        wire.servicer.release.set()
        assert (await call).file.name == WAITING
        await draining
        assert wire.server.in_flight == 0


async def test_a_stream_is_told_and_says_goodbye() -> None:
    async with serving() as wire:
        name = "organizations/o/users/u/files/stream"
        stream = wire.stub.DownloadFile(pb.DownloadFileRequest(name=name), metadata=(signed(),))
        got = [(await stream.read()).data]
        await wire.servicer.entered.wait()
        await wire.server.drain(20)
        while (answer := await stream.read()) is not EOF:
            got.append(answer.data)
        assert got == [b"1", b"goodbye"]
        assert await stream.code() is grpc.StatusCode.OK


async def test_what_does_not_end_in_time_is_cut_off() -> None:
    async with serving() as wire:
        call = asyncio.create_task(wire.get(signed(), name=WAITING))
        await wire.servicer.entered.wait()
        await wire.server.drain(0.05)
        assert wire.server.in_flight == 1
        await wire.server.stop()
        async with asyncio.timeout(10):
            await wire.servicer.cancelled.wait()
        with pytest.raises(HoldfastError):
            await call


async def test_health_follows_components_and_refusal_without_a_token() -> None:
    health = Health(["database"])
    async with serving(health=health) as wire:
        stub: Any = HealthStub(wire.channel)

        async def status(service: str = "") -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)

        assert await status() == NOT_SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        seen = [(await watch.read()).status]
        health.set("database", True)
        seen.append((await watch.read()).status)
        assert await status("holdfast.files.v1.FileService") == SERVING
        health.set("database", False, "gone")
        seen.append((await watch.read()).status)
        health.set("database", True)
        seen.append((await watch.read()).status)
        wire.server.refuse()
        seen.append((await watch.read()).status)
        assert seen == [NOT_SERVING, SERVING, NOT_SERVING, SERVING, NOT_SERVING]
        watch.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await status("nothing")
        assert found.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_component_that_comes_back_is_believed_and_one_that_hangs_is_not() -> None:
    answers: dict[str, Any] = {"raises": ConnectionError("refused"), "faults": ["role is superuser"], "fine": []}
    health = Health()

    async def raises() -> object:
        if answers["raises"] is not None:
            raise answers["raises"]
        return None

    async def faults() -> object:
        return answers["faults"]

    async def fine() -> object:
        return answers["fine"]

    async def hangs() -> object:
        return await asyncio.Event().wait()

    probes = {"raises": raises, "faults": faults, "fine": fine, "hangs": hangs}
    monitor = Monitor(health, probes, every_seconds=0.01, timeout_seconds=0.05)
    assert set(health.faults().values()) == {NOT_YET}
    await monitor.start()
    try:
        await until(lambda: NOT_YET not in health.faults().values(), "a first answer of each probe")
        told = {"raises": "ConnectionError: refused", "faults": "role is superuser", "hangs": "no answer in 0.05 s"}
        assert health.faults() == told
        answers |= {"raises": None, "faults": []}
        await until(lambda: set(health.faults()) == {"hangs"}, "two components coming back")
    finally:
        await monitor.stop()


async def test_a_socket_left_by_a_killed_process_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    remove_stale(path)
    assert not path.exists()
    remove_stale(path)
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        remove_stale(path)
    assert path.read_text() == "mine"


async def test_plain_text_does_not_leave_the_machine() -> None:
    async with serving() as wire:
        served = wire.server._servicers
        verifier = Verifier("files", lambda: tokens.keys("files"))
        server = Server("0.0.0.0:0", served, service="files", verifier=verifier, health=Health(), metrics=wire.metrics)
        with pytest.raises(ValueError, match="needs TLS"):
            await server.start()
