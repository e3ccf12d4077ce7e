"""Users' keys, unwrapped: fetched when they are needed, kept for a short while, forgotten first come first.

How long a key is remembered is how long an erased one still opens files in a replica that did not erase it itself.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.usertoken.keys import Keys
from libs.crypto import Damaged, envelope, new_key
from services.files.adapters.keystore import KeyStore
from services.files.domain.errors import KeyMissing, KeysErased

MOST = 10_000


@dataclass(frozen=True, slots=True)
class UserKey:
    """One key of a user: its id, and 32 bytes that never print."""

    id: str
    secret: bytes = field(repr=False)


class Keyring:
    """The keys in *store*, opened with *roots*. ids: makes ids that sort by time; the newest key of a user seals.

    remember_seconds: how long a key is kept here. tick: seconds that only grow.
    """

    def __init__(
        self,
        store: KeyStore,
        roots: Callable[[], Keys],
        ids: Callable[[], str],
        *,
        remember_seconds: float,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._roots, self._ids = store, roots, ids
        self._remember, self._tick = remember_seconds, tick
        self._known: OrderedDict[tuple[str, str], tuple[float, UserKey]] = OrderedDict()

    async def current(self, user_id: str) -> UserKey:
        """The key that seals what the user stores now; made when the user has none. Raises KeysErased, KeyMissing.

        Two that begin at once may make two: both stay, and the later one seals from then on.
        """
        return self._recall(user_id, "") or await self.newest(user_id) or await self.make(user_id)

    async def newest(self, user_id: str) -> UserKey | None:
        """The newest key of the user as the store has it now, None when there is none. Raises like current."""
        ids = await self._store.ids(user_id)
        if not ids:
            return None
        found = self._recall(user_id, ids[-1]) or await self._fetch(user_id, ids[-1])
        self._keep(user_id, "", found)
        return found

    async def ids(self, user_id: str) -> list[str]:
        """The ids of the user's keys, oldest first. Raises KeysErased."""
        return await self._store.ids(user_id)

    async def find(self, user_id: str, key_id: str) -> UserKey:
        """One key of the user. Raises KeysErased; KeyMissing when it is lost, or no root opens it."""
        known = self._recall(user_id, key_id)
        if known is None:
            if key_id not in await self._store.ids(user_id):
                raise _missing()
            known = await self._fetch(user_id, key_id)
        return known

    async def make(self, user_id: str) -> UserKey:
        """A fresh key, which seals from now on; here at once, elsewhere when the old one is forgotten."""
        made = UserKey(self._ids(), new_key())
        await self._store_new(user_id, made)
        for name in ("", made.id):
            self._keep(user_id, name, made)
        return made

    async def retire(self, user_id: str, key_id: str) -> None:
        """Remove one key, which nothing names any more, for good."""
        await self._store.remove(user_id, key_id)
        self._known.pop((user_id, key_id), None)

    async def erase(self, user_id: str) -> None:
        """Remove every key of the user for good, and make no other one ever. Repeatable."""
        await self._store.erase(user_id)
        for name in [name for name in self._known if name[0] == user_id]:
            del self._known[name]

    async def names(self, after: str, limit: int) -> list[tuple[str, str]]:
        """See KeyStore.every."""
        return await self._store.every(after, limit)

    async def renew(self, user_id: str, key_id: str) -> bool:
        """Wrap a key by the current root, if another one wraps it; whether it was. Raises KeyMissing, KeysErased."""
        try:
            if envelope.of_current_root(await self._store.get(user_id, key_id), self._roots()):
                return False
        except Damaged as fault:
            raise _missing() from fault
        await self._store_new(user_id, await self._fetch(user_id, key_id))
        return True

    async def _store_new(self, user_id: str, made: UserKey) -> None:
        stored = envelope.seal_user_key(made.secret, self._roots(), user_id=user_id, key_id=made.id)
        await self._store.put(user_id, made.id, stored)
        try:
            await self._store.ids(user_id)
        except KeysErased:
            # They were erased meanwhile: what was just put must not bring one back.
            await self._store.remove(user_id, made.id)
            raise

    async def _fetch(self, user_id: str, key_id: str) -> UserKey:
        stored = await self._store.get(user_id, key_id)
        try:
            secret = envelope.open_user_key(stored, self._roots(), user_id=user_id, key_id=key_id)
        except (Damaged, envelope.UnknownRoot) as fault:
            raise _missing() from fault
        found = UserKey(key_id, secret)
        self._keep(user_id, key_id, found)
        return found

    def _recall(self, user_id: str, key_id: str) -> UserKey | None:
        until, known = self._known.get((user_id, key_id), (0.0, None))
        return known if self._tick() < until else None

    def _keep(self, user_id: str, key_id: str, key: UserKey) -> None:
        self._known[user_id, key_id] = (self._tick() + self._remember, key)
        self._known.move_to_end((user_id, key_id))
        while len(self._known) > MOST:
            self._known.popitem(last=False)


def _missing() -> KeyMissing:
    return KeyMissing("The key of the file's bytes cannot be used; the request id finds the reason in the logs.")
