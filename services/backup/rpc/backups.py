"""holdfast.backup.v1.BackupService."""

from collections.abc import AsyncIterator

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1 import backup_service_pb2_grpc as grpc_pb
from libs import names, page
from libs.rpc.server import Context, principal
from services.backup.domain.backup import Backup
from services.backup.ops.backups import Backups
from services.backup.ops.recovery import Recovery
from services.backup.rpc import messages


class BackupServicer(grpc_pb.BackupServiceServicer):
    """Backups and the recovery status, for operators."""

    def __init__(self, backups: Backups, recovery: Recovery, tokens: page.Tokens) -> None:
        self._backups = backups
        self._recovery = recovery
        self._tokens = tokens

    async def CreateBackup(self, request: pb.CreateBackupRequest, context: Context) -> pb.CreateBackupResponse:
        """Start a backup."""
        made = await self._backups.create(principal(context), messages.backup_type(request.backup.type))
        return pb.CreateBackupResponse(backup=messages.backup(made))

    async def GetBackup(self, request: pb.GetBackupRequest, context: Context) -> pb.GetBackupResponse:
        """One backup."""
        found = await self._backups.get(names.BACKUP.parse(request.name)["backup"])
        return pb.GetBackupResponse(backup=messages.backup(found))

    async def ListBackups(self, request: pb.ListBackupsRequest, context: Context) -> pb.ListBackupsResponse:
        """A page of backups, newest first."""
        position = self._tokens.open(request.page_token, list="backups")
        size = page.size(request.page_size)
        found = [one for one in await self._backups.list() if not position or _position(one) < position]
        more = self._tokens.seal(_position(found[size - 1]), list="backups") if len(found) > size else ""
        return pb.ListBackupsResponse(backups=[messages.backup(one) for one in found[:size]], next_page_token=more)

    async def WatchBackup(
        self, request: pb.WatchBackupRequest, context: Context
    ) -> AsyncIterator[pb.WatchBackupResponse]:
        """The backup until it has ended."""
        async for one in self._backups.watch(names.BACKUP.parse(request.name)["backup"]):
            yield pb.WatchBackupResponse(backup=messages.backup(one))

    async def CreateHeartbeat(self, request: pb.CreateHeartbeatRequest, context: Context) -> pb.CreateHeartbeatResponse:
        """A heartbeat, written and archived now."""
        return pb.CreateHeartbeatResponse(heartbeat=messages.heartbeat(await self._recovery.advance()))

    async def GetRecoveryStatus(
        self, request: pb.GetRecoveryStatusRequest, context: Context
    ) -> pb.GetRecoveryStatusResponse:
        """What can be restored now."""
        return messages.status(await self._recovery.status())


def _position(backup: Backup) -> page.Position:
    """Where *backup* stands in the list; in the order of `Backups.list`."""
    return (backup.started_at.isoformat(), backup.id)
