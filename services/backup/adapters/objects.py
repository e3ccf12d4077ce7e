"""Whether the rows of files and the objects of their bytes agree, both ways, by samples; read with an identity that may
only read.

A row's object is asked for by its key and has to have its size when sealed. An object older than the copy's newest
heartbeat has to have a row, whatever its state: rows are made before their objects and removed after them. How long
bytes outlive their delete is told by the jobs that wait to remove them.
"""

import asyncio
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from libs.crypto import sealed_size
from libs.secret import Secret
from services.backup.adapters.copy import Copy
from services.backup.domain import ladder
from services.backup.domain.drill import Check, not_made
from services.backup.domain.errors import EngineAway
from services.backup.domain.object_rpo import LAG, ROWS

_NONE = Secret(b"")
OBJECTS = "rows_of_objects"
_SAMPLE = 200
_KEY = re.compile(r"([a-z0-9]{1,40})/([a-z0-9]{1,40})/([a-z0-9]{1,40})")
_FIRST = string.digits + string.ascii_lowercase
UNSET = "no object store is configured for drills: HOLDFAST_FILES_ENDPOINT and its read-only key pair"
# Half of the sample are the newest, which a torn recovery would lose first; the others are of any age. A file that was
# deleted before the copy's moment may have reached the end of its recovery window since then: its bytes are no loss.
_VERSIONS = """
WITH kept AS NOT MATERIALIZED (
  SELECT v.user_id, v.object_id, v.id, v.size_bytes, v.finished_at FROM files.versions v
   WHERE v.state = 'ready' AND NOT EXISTS (
         SELECT FROM files.files f
          WHERE f.organization_id = v.organization_id AND f.user_id = v.user_id AND f.id = v.file_id
            AND f.deleted_at IS NOT NULL)
)
(SELECT * FROM kept ORDER BY id DESC LIMIT %s) UNION (SELECT * FROM kept ORDER BY md5(id || %s) LIMIT %s)
"""
_REMOVALS = """
SELECT count(*), min(run_at - created_at) FROM jobs.jobs
 WHERE service = 'files' AND type IN ('remove_file', 'remove_version')
"""
_STRANGERS = """
SELECT k.u || '/' || k.o || '/' || k.v FROM unnest(%s::text[], %s::text[], %s::text[]) AS k (u, o, v)
 WHERE NOT EXISTS (SELECT FROM files.versions f WHERE f.user_id = k.u AND f.object_id = k.o AND f.id = k.v) ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Store:
    """The bucket of the file bytes. endpoint: https URL, "" for none. ca_file: PEM, "" for the system's.

    keys_…: the bucket of users' keys in the same store, with a key pair of its own that may only read it.
    """

    endpoint: str
    region: str
    bucket: str
    ca_file: str
    access_key: Secret
    secret_key: Secret
    keys_bucket: str = ""
    keys_access_key: Secret = _NONE
    keys_secret_key: Secret = _NONE


class Objects:
    """Compares one copy with the store as it is now. draw: 0 to 1, for where samples begin."""

    def __init__(self, copy: Copy, store: Store, *, draw: Callable[[], float]) -> None:
        self._copy = copy
        self._store = store
        self._draw = draw
        self._client: Any = None

    async def of_rows(self) -> Check:
        """Rows without an object."""
        if not self._store.endpoint:
            return not_made(ROWS, UNSET)
        asked = [_SAMPLE // 2, str(self._draw()), _SAMPLE // 2]
        sample = await self._copy.ask(_VERSIONS, asked)
        sizes = {f"{user}/{file}/{version}": sealed_size(size) for user, file, version, size, _ in sample}
        finished = {f"{user}/{file}/{version}": at for user, file, version, _, at in sample}
        try:
            missing = await called(self._missing, sizes)
        except EngineAway as away:
            return not_made(ROWS, away.message)
        return ladder.objects_of_rows(len(sizes), {key: finished[key] for key in missing})

    async def of_objects(self, restored: datetime | None) -> Check:
        """Objects without a row. restored: when the copy's newest heartbeat was written."""
        if not self._store.endpoint:
            return not_made(OBJECTS, UNSET)
        if restored is None:
            return not_made(OBJECTS, "the copy has no heartbeat to say which objects it should know")
        try:
            listed = [key for key, at in await called(self._listed) if at < restored]
        except EngineAway as away:
            return not_made(OBJECTS, away.message)
        parts = [found.groups() for key in listed if (found := _KEY.fullmatch(key))]
        odd = [key for key in listed if not _KEY.fullmatch(key)]
        columns = [list(column) for column in zip(*parts, strict=True)] or [[], [], []]
        strangers = [key for (key,) in await self._copy.ask(_STRANGERS, columns)]
        return ladder.rows_of_objects(len(listed), odd + strangers)

    async def deletes(self, restored: datetime | None, now: datetime) -> Check:
        """Whether bytes deleted since the copy's newest heartbeat, written at *restored*, are there yet."""
        if restored is None:
            return not_made(LAG, "the copy has no heartbeat to say how old it is")
        waiting, shortest = (await self._copy.ask(_REMOVALS))[0]
        return ladder.deletes_lag(waiting, shortest, now - restored)

    def _missing(self, sizes: Mapping[str, int]) -> list[str]:
        return [key for key, size in sizes.items() if self._size(key) != size]

    def _size(self, key: str) -> int:
        """Bytes of the object, -1 when there is none."""
        try:
            return int(self._opened().head_object(Bucket=self._store.bucket, Key=key)["ContentLength"])
        except ClientError as fault:
            if fault.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                return -1
            raise

    def _listed(self) -> list[tuple[str, datetime]]:
        """Objects from somewhere in the bucket on, and from its beginning when those are few."""
        start = _FIRST[int(self._draw() * len(_FIRST)) % len(_FIRST)]
        found = dict(self._page(StartAfter=start))
        if len(found) < _SAMPLE // 2:
            found |= dict(self._page())
        return list(found.items())

    def _page(self, **where: str) -> list[tuple[str, datetime]]:
        answer = self._opened().list_objects_v2(Bucket=self._store.bucket, MaxKeys=_SAMPLE, **where)
        return [(one["Key"], one["LastModified"]) for one in answer.get("Contents", [])]

    def _opened(self) -> Any:
        if self._client is None:
            self._client = client(self._store)
        return self._client


async def called(what: Callable[..., Any], *arguments: Any) -> Any:
    """What *what*, which talks to the store, gives back from a thread. Raises EngineAway when the store refuses."""
    try:
        return await asyncio.to_thread(what, *arguments)
    except ClientError as fault:
        code = fault.response.get("Error", {}).get("Code", "")
        raise EngineAway(f"The object store refuses the drill: {code}.", command="objects") from fault
    except (BotoCoreError, OSError) as fault:
        raise EngineAway(f"The object store is away: {type(fault).__name__}.", command="objects") from fault


def client(store: Store) -> Any:
    """A client of the bucket of the file bytes."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=store.endpoint,
        region_name=store.region,
        aws_access_key_id=store.access_key.text(),
        aws_secret_access_key=store.secret_key.text(),
        verify=store.ca_file or True,
        config=Config(
            connect_timeout=3, read_timeout=15, retries={"total_max_attempts": 2}, s3={"addressing_style": "path"}
        ),
    )
