"""Users' wrapped keys in a bucket of their own, with an identity of its own."""

from typing import Any

from libs.crypto.envelope import ERASED
from services.files.adapters.bucket import Absent, Bucket
from services.files.domain.errors import KeyMissing, KeysErased
from services.files.domain.key import key_name


class S3Keys(Bucket):
    """The bucket of users' keys. See KeyStore."""

    async def ids(self, user_id: str) -> list[str]:
        """See KeyStore."""
        found = await self._listed(user_id)
        if ERASED in found:
            raise KeysErased("The keys of these files have been erased: nobody can read them any more.")
        return found

    async def get(self, user_id: str, key_id: str) -> bytes:
        """See KeyStore."""

        def read() -> bytes:
            answer = self._client.get_object(**self._target(user_id, key_id))
            with answer["Body"] as body:
                return bytes(body.read())

        try:
            return await self._call(read)
        except Absent as fault:
            raise _missing() from fault

    async def put(self, user_id: str, key_id: str, wrapped: bytes) -> None:
        """See KeyStore."""
        await self._call(self._client.put_object, **self._target(user_id, key_id), Body=wrapped)

    async def remove(self, user_id: str, key_id: str) -> None:
        """See KeyStore."""
        await self._forgiving(self._client.delete_object, **self._target(user_id, key_id))

    async def erase(self, user_id: str) -> None:
        """See KeyStore. Whoever makes a key meanwhile looks for the mark after it, and removes the key again."""
        await self.put(user_id, ERASED, b"")
        for key_id in await self._listed(user_id):
            if key_id != ERASED:
                await self.remove(user_id, key_id)

    async def every(self, after: str, limit: int) -> list[tuple[str, str]]:
        """See KeyStore."""
        answer = await self._call(self._client.list_objects_v2, Bucket=self._bucket, StartAfter=after, MaxKeys=limit)
        names = (str(one["Key"]).partition("/") for one in answer.get("Contents", []))
        return [(user_id, key_id) for user_id, _, key_id in names]

    async def _listed(self, user_id: str) -> list[str]:
        prefix = key_name(user_id, "")
        answer: dict[str, Any] = await self._call(self._client.list_objects_v2, Bucket=self._bucket, Prefix=prefix)
        return sorted(str(one["Key"]).removeprefix(prefix) for one in answer.get("Contents", []))

    def _target(self, user_id: str, key_id: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": key_name(user_id, key_id)}


def _missing() -> KeyMissing:
    return KeyMissing("The key of the file's bytes cannot be found; the request id finds the reason in the logs.")
