"""The operator socket: the kernel says who calls, and nothing a caller sends changes that."""

import os
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1 import backup_service_pb2_grpc as grpc_pb
from libs.observability.metric import Metrics
from libs.principal import Operator
from libs.process import Part
from libs.rpc.health import Health
from libs.rpc.operator import Front, operators
from libs.rpc.server import Context, Server, principal


class Named(grpc_pb.DrillServiceServicer):
    """Answers with whom it was called by."""

    async def GetDrill(self, request: pb.GetDrillRequest, context: Context) -> pb.GetDrillResponse:
        caller = principal(context)
        assert isinstance(caller, Operator)
        return pb.GetDrillResponse(drill=pb.Drill(name=caller.operator_id))


def inner(address: str, operator: str) -> Part:
    service = pb.DESCRIPTOR.services_by_name["DrillService"]
    served = [(grpc_pb.add_DrillServiceServicer_to_server, Named(), service)]  # type: ignore[abstract]  # one method is enough here
    return Server(
        address, served, service="backup", verifier=None, operator=operator, health=Health(), metrics=Metrics()
    )


@pytest.fixture
async def place() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hfo-", dir="/tmp") as folder:
        yield Path(folder) / "operator" / "operator.sock"


async def ask(path: Path, *metadata: tuple[str, str]) -> str:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        stub = grpc_pb.DrillServiceStub(channel)
        answer = await stub.GetDrill(pb.GetDrillRequest(name="drills/1"), timeout=10, metadata=metadata)
        return str(answer.drill.name)


def mode(path: Path) -> int:
    """The permission bits of *path*, 0 when it is not there."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else 0


async def test_the_caller_is_whom_the_kernel_names_whatever_it_sends(place: Path) -> None:
    front = Front(place, inner, uids=operators())
    await front.start()
    try:
        assert await ask(place) == f"uid:{os.geteuid()}"
        assert await ask(place, ("x-operator-uid", "4242")) == f"uid:{os.geteuid()}"
        assert (mode(place), mode(place.parent)) == (0o600, 0o700)
    finally:
        await front.drain(1)
        await front.stop()
    assert mode(place) == 0


async def test_a_uid_that_is_no_operator_is_hung_up_on(place: Path) -> None:
    front = Front(place, inner, uids={os.geteuid() + 1})
    await front.start()
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(place)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert list((place.parent / "inner").iterdir()) == []
    finally:
        await front.stop()


async def test_a_socket_left_by_a_killed_process_is_replaced(place: Path) -> None:
    killed = Front(place, inner, uids=operators())
    await killed.start()
    again = Front(place, inner, uids=operators())
    await again.start()
    try:
        assert await ask(place) == f"uid:{os.geteuid()}"
    finally:
        await again.stop()
        await killed.stop()
