"""holdfast.backup.v1.DrillService."""

from collections.abc import AsyncIterator

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1 import backup_service_pb2_grpc as grpc_pb
from libs import names, page
from libs.rpc.server import Context, principal
from services.backup.ops.drills import Drills
from services.backup.rpc import messages


class DrillServicer(grpc_pb.DrillServiceServicer):
    """Drills, for operators."""

    def __init__(self, drills: Drills, tokens: page.Tokens) -> None:
        self._drills = drills
        self._tokens = tokens

    async def CreateDrill(self, request: pb.CreateDrillRequest, context: Context) -> pb.CreateDrillResponse:
        """Start a drill."""
        target = request.drill.target
        at = messages.moment(target.time, "drill.target.time") if target.HasField("time") else None
        backup = names.BACKUP.parse(target.backup, field="drill.target.backup")["backup"] if target.backup else ""
        kind, full = messages.drill_kind(request.drill), request.drill.full_checks
        made = await self._drills.create(
            principal(context), kind=kind, target=at, lsn=target.lsn, backup=backup, full=full
        )
        return pb.CreateDrillResponse(drill=messages.drill(made))

    async def GetDrill(self, request: pb.GetDrillRequest, context: Context) -> pb.GetDrillResponse:
        """One drill."""
        return pb.GetDrillResponse(drill=messages.drill(self._drills.get(names.DRILL.parse(request.name)["drill"])))

    async def ListDrills(self, request: pb.ListDrillsRequest, context: Context) -> pb.ListDrillsResponse:
        """A page of drills, newest first; ids sort by time of making."""
        position = self._tokens.open(request.page_token, list="drills")
        size = page.size(request.page_size)
        found = [one for one in self._drills.list() if not position or one.id < str(position[0])]
        more = self._tokens.seal((found[size - 1].id,), list="drills") if len(found) > size else ""
        return pb.ListDrillsResponse(drills=[messages.drill(one) for one in found[:size]], next_page_token=more)

    async def CancelDrill(self, request: pb.CancelDrillRequest, context: Context) -> pb.CancelDrillResponse:
        """End a running drill."""
        found = await self._drills.cancel(principal(context), names.DRILL.parse(request.name)["drill"])
        return pb.CancelDrillResponse(drill=messages.drill(found))

    async def WatchDrill(self, request: pb.WatchDrillRequest, context: Context) -> AsyncIterator[pb.WatchDrillResponse]:
        """The drill until it has ended."""
        async for one in self._drills.watch(names.DRILL.parse(request.name)["drill"]):
            yield pb.WatchDrillResponse(drill=messages.drill(one))
