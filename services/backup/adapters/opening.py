"""Whether a restored file still opens: its row from the copy, its bytes and its user's key from the store as they are
now, read with identities that may only read, and the root keys from the opened escrow and nowhere else.

A file whose user's keys have been erased is passed over, and is looked at all the same: nothing may be left of them.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from libs.crypto import Damaged, cut, envelope, unseal
from services.backup.adapters.copy import Copy
from services.backup.adapters.objects import UNSET, Store, called, client
from services.backup.domain import ladder
from services.backup.domain.drill import Check, not_made
from services.backup.domain.errors import EngineAway, EngineFailed

FILE = "file_opens"
_DRAWN = 50
_CHUNK_BYTES = 1 << 20
_SEALED = "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('files.versions') AND attname = 'wrapped_key'"
# Of a file that was deleted before the copy's moment the bytes may be gone by now.
_FILES = """
SELECT user_id, object_id, id, key_id, wrapped_key, size_bytes, sha256 FROM files.versions v
 WHERE state = 'ready' AND key_id <> '' AND NOT EXISTS (
       SELECT FROM files.files f
        WHERE f.organization_id = v.organization_id AND f.user_id = v.user_id AND f.id = v.file_id
          AND f.deleted_at IS NOT NULL)
 ORDER BY md5(id || %s) LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """One ready version as the copy has it."""

    user_id: str
    object_id: str
    version_id: str
    key_id: str
    wrapped_key: bytes
    size_bytes: int
    sha256: bytes


class Opening:
    """Opens one file of *copy*. roots: the file of root keys, empty for none. draw: 0 to 1, for which one."""

    def __init__(self, copy: Copy, store: Store, roots: bytes, *, draw: Callable[[], float]) -> None:
        self._copy, self._store, self._roots, self._draw = copy, store, roots, draw
        self._keys: Any = None
        self._bytes: Any = None

    async def check(self) -> Check:
        """The check. Raises EngineFailed when what has to open does not."""
        store = self._store
        if not store.endpoint:
            return not_made(FILE, UNSET)
        if not (store.keys_access_key and store.keys_secret_key):
            return not_made(FILE, "no identity that may read users' keys is configured for drills")
        if not self._roots:
            return not_made(FILE, "the escrow that was opened holds no root keys of files: export another")
        if not (await self._copy.ask(_SEALED))[0][0]:
            return not_made(FILE, "the copy is of a moment before files were encrypted")
        rows = [_Row(*row) for row in await self._copy.ask(_FILES, [str(self._draw()), _DRAWN])]
        try:
            return await self._first(rows)
        except EngineAway as away:
            return not_made(FILE, away.message)

    async def _first(self, rows: list[_Row]) -> Check:
        store = self._store
        self._bytes = client(store)
        self._keys = client(replace(store, access_key=store.keys_access_key, secret_key=store.keys_secret_key))
        for erased, row in enumerate(rows):
            if not await self._erased(row):
                return ladder.file_opens(await self._digest(row), row.sha256.hex(), erased)
        return ladder.file_opens(None, "", len(rows))

    async def _erased(self, row: _Row) -> bool:
        """Whether the keys of the row's user are erased. Raises EngineFailed when they are and something is left."""
        prefix = f"{row.user_id}/"
        answer = await called(lambda: self._keys.list_objects_v2(Bucket=self._store.keys_bucket, Prefix=prefix))
        names = {str(one["Key"]).removeprefix(prefix) for one in answer.get("Contents", [])}
        if envelope.ERASED in names and len(names) > 1:
            raise _failed(f"{len(names) - 1} keys of a user are there although they were erased")
        return envelope.ERASED in names

    async def _digest(self, row: _Row) -> str:
        """The SHA-256 of the opened bytes. Raises EngineFailed."""
        where = {"user_id": row.user_id, "key_id": row.key_id}
        stored = await self._got(self._keys, self._store.keys_bucket, f"{row.user_id}/{row.key_id}", "the user's key")
        try:
            roots = envelope.parse_roots(self._roots.removesuffix(b"\n"))
            user_key = envelope.open_user_key(await called(stored.read), roots, **where)
            data_key = envelope.unwrap_data_key(row.wrapped_key, user_key, version_id=row.version_id, **where)
            name = f"{row.user_id}/{row.object_id}/{row.version_id}"
            body = await self._got(self._bytes, self._store.bucket, name, "its object")
            of, digest = cut(row.size_bytes, offset=0, length=row.size_bytes), hashlib.sha256()
            async for chunk in unseal(_chunks(body), data_key, *envelope.bytes_of(row.version_id), of=of):
                digest.update(chunk)
        except envelope.UnknownRoot as fault:
            raise _failed(f"the escrow does not hold the root key {fault} that wraps the user's key") from None
        except (Damaged, ValueError):
            raise _failed("what was sealed does not open with the keys it names") from None
        return digest.hexdigest()

    async def _got(self, store: Any, bucket: str, name: str, what: str) -> Any:
        def get() -> Any:
            try:
                return store.get_object(Bucket=bucket, Key=name)["Body"]
            except ClientError as fault:
                if fault.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
                    return None
                raise

        found = await called(get)
        if found is None:
            raise _failed(f"{what} is not in the store, and nothing says that it was erased")
        return found


async def _chunks(body: Any) -> AsyncIterator[bytes]:
    while chunk := await called(body.read, _CHUNK_BYTES):
        yield chunk


def _failed(why: str) -> EngineFailed:
    return EngineFailed(f"A restored file does not open: {why}.", command=FILE)
