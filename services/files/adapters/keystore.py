"""Where users' keys lie: outside the database and its backups, each wrapped by a root key that lies nowhere near.

Every name begins with the user's id, which `domain.key.key_name` sees to (T7). Nothing here keeps versions: what is
removed is gone.
"""

from typing import Protocol


class KeyStore(Protocol):
    """Wrapped keys under `<user id>/<key id>`. All raise StoreUnavailable when the store is away."""

    async def ids(self, user_id: str) -> list[str]:
        """The ids of the user's keys, oldest first. Raises KeysErased."""

    async def get(self, user_id: str, key_id: str) -> bytes:
        """The wrapped key. Raises KeyMissing."""

    async def put(self, user_id: str, key_id: str, wrapped: bytes) -> None:
        """Store it, in the place of what was there."""

    async def remove(self, user_id: str, key_id: str) -> None:
        """Remove one key for good; nothing happens when there is none."""

    async def erase(self, user_id: str) -> None:
        """Say that the user has no keys and gets none any more, then remove each; repeatable."""

    async def every(self, after: str, limit: int) -> list[tuple[str, str]]:
        """At most *limit* names as (user id, key id) behind the name *after*, `erased` among them, in their order."""

    async def probe(self) -> None:
        """Return when the store answers and our key pair may use the bucket."""
