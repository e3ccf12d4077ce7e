"""What the database is told, when it listens: audit rows, and the mirror of drills. Nothing here can stop a drill."""

from libs import audit
from libs.db import Database
from libs.errors import AppError
from libs.observability import log
from libs.principal import Principal, System
from services.backup.domain.drill import Drill
from services.backup.store import drills as rows

_log = log.get(__name__)


class Recorder:
    """Writes to the database, and to the log alone when the database is away: it may be what is being recovered."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def audit(self, who: Principal, action: str, **facts: str) -> None:
        """An audit row for *who* did *action*."""
        try:
            async with self._db.begin(who) as tx:
                await audit.record(tx, action, **facts)
        except AppError as error:
            _log.warning("audit_not_written", action=action, reason=error.reason, **facts)

    async def mirror(self, drill: Drill) -> None:
        """Make the row of *drill* equal to its journal."""
        try:
            async with self._db.begin(System("backup")) as tx:
                await rows.mirror(tx, drill)
        except AppError as error:
            _log.warning("drill_not_mirrored", drill=drill.id, reason=error.reason)
