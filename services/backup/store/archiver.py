"""What the server says of its own archiving. It says nothing about the repository: that is asked there."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from libs.db import Tx
from services.backup.domain.repository import Server
from services.backup.domain.wal import SEGMENT_BYTES

_STATUS = text(
    "SELECT (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'), last_failed_time,"
    " last_archived_time, current_setting('archive_mode'),"
    " (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') FROM pg_stat_archiver"
)
_READY = text("SELECT left(name, 24) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'")
_SERVER = text("SELECT system_identifier, current_setting('server_version_num')::int / 10000 FROM pg_control_system()")


@dataclass(frozen=True, slots=True)
class Archiver:
    """waiting: segments not archived yet. failing_since: the last failure, when nothing was archived after it."""

    waiting: int
    failing_since: datetime | None
    on: bool
    segment_bytes: int = SEGMENT_BYTES


async def status(tx: Tx) -> Archiver:
    """The archiver now."""
    waiting, failed_at, archived_at, mode, segment_bytes = tuple(*(await tx.execute(_STATUS)))
    failing = failed_at is not None and (archived_at is None or failed_at > archived_at)
    return Archiver(waiting, failed_at if failing else None, mode != "off", segment_bytes)


async def ready(tx: Tx) -> frozenset[str]:
    """Names of the segments that wait to be archived."""
    return frozenset((await tx.execute(_READY)).scalars())


async def server(tx: Tx) -> Server:
    """Who the server is, as a repository knows it."""
    system_id, version = tuple(*(await tx.execute(_SERVER)))
    return Server(int(system_id), str(version))
