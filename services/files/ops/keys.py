"""Users' keys: changing them while every file stays readable, and erasing them so that none ever is again."""

from datetime import timedelta

from libs import audit, jobqueue
from libs.crypto import Damaged, envelope
from libs.db import retrying
from libs.observability import log
from libs.principal import User
from services.files.adapters.keyring import Keyring, UserKey
from services.files.domain.errors import BytesDamaged, KeyMissing, KeysErased
from services.files.domain.file import Version
from services.files.domain.job import RetireKey
from services.files.ops.upload import Begin
from services.files.store import versions

_PAGE = 200
_log = log.get(__name__)


class Keys:
    """The verbs. kept: how long a key is kept that nothing names any more: as long as a backup may name it."""

    def __init__(self, begin: Begin, keyring: Keyring, *, kept: timedelta) -> None:
        self._begin, self._keyring, self._kept = begin, keyring, kept

    async def rotate(self, who: User, key_id: str) -> None:
        """Seal with a fresh key from now on, when *key_id* is what seals, and wrap every version's key by the newest.

        May run twice or break off anywhere: old keys stay, and open what they wrap. Raises KeysErased.
        """
        newest = await self._keyring.newest(who.user_id)
        if newest is None or newest.id == key_id:
            newest = await self._keyring.make(who.user_id)
        while page := await self._page(who, newest.id):
            await retrying(self._rewrap)(who, page, newest)
        old = [one for one in await self._keyring.ids(who.user_id) if one < newest.id]
        async with self._begin(who) as tx:
            for one in old:
                await jobqueue.put(tx, RetireKey(one), run_at=tx.now() + self._kept)
            await audit.record(tx, "key.rotated", key=newest.id)

    async def retire(self, who: User, key_id: str) -> None:
        """Remove a key for good, unless a version names it after all: then that is wrapped anew, and the key waits."""
        try:
            newest = (await self._keyring.ids(who.user_id) or [key_id])[-1]
        except KeysErased:
            return
        async with self._begin(who) as tx:
            named = await versions.names_key(tx, key_id)
        if named:
            await self.rotate(who, "")
        elif key_id != newest:
            await self._keyring.retire(who.user_id, key_id)

    async def erase(self, who: User) -> None:
        """Erase every key of the user: no file can be read any more, in this database or any backup, and none stored.

        Done when this returns but for what replicas remember: `key_cache_seconds`, and downloads already begun.
        """
        await self._keyring.erase(who.user_id)
        async with self._begin(who) as tx:
            await audit.record(tx, "files.erased")

    async def known(self, who: User) -> bool:
        """Whether the user has stored anything, so that a mistyped name is not taken for one."""
        async with self._begin(who) as tx:
            return await versions.any_at_all(tx)

    async def renew(self) -> int:
        """Wrap all users' keys by the current root; how many were not. Then a former root may be given up.

        A key that lies beside the mark of an erasure, as after a crash, is removed. Raises KeyMissing at the end when a
        key could not be opened.
        """
        renewed, lost, after, before = 0, 0, "", ""
        while names := await self._keyring.names(after, _PAGE):
            for user_id, key_id in names:
                if key_id == envelope.ERASED:
                    await self._erased(user_id, had_keys=user_id == before)
                else:
                    found = await self._renewed(user_id, key_id)
                    renewed, lost = renewed + (found is True), lost + (found is None)
                after, before = f"{user_id}/{key_id}", user_id
        _log.info("user_keys_renewed", renewed=renewed, lost=lost)
        if lost:
            raise KeyMissing(f"{lost} keys of users open with no root key.", lost=lost)
        return renewed

    async def _renewed(self, user_id: str, key_id: str) -> bool | None:
        """Whether the key was renewed; None for one that does not open."""
        try:
            return await self._keyring.renew(user_id, key_id)
        except KeysErased:
            return False
        except KeyMissing:
            return None

    async def _erased(self, user_id: str, *, had_keys: bool) -> None:
        # `erased` comes behind every key id in the order of names, so that keys that were left have been seen.
        if had_keys:
            await self._keyring.erase(user_id)

    async def _page(self, who: User, key_id: str) -> list[tuple[Version, UserKey]]:
        async with self._begin(who) as tx:
            found = await versions.wrapped_by_others(tx, key_id, limit=_PAGE)
        return [(version, await self._keyring.find(who.user_id, version.key_id)) for version in found]

    async def _rewrap(self, who: User, page: list[tuple[Version, UserKey]], newest: UserKey) -> None:
        async with self._begin(who) as tx:
            for version, key in page:
                place = {"user_id": version.user_id, "version_id": version.id}
                try:
                    data_key = envelope.unwrap_data_key(version.wrapped_key, key.secret, **place, key_id=key.id)
                except Damaged as fault:
                    raise BytesDamaged("A version's key does not open.", version=version.id) from fault
                wrapped = envelope.wrap_data_key(data_key, newest.secret, **place, key_id=newest.id)
                await versions.rewrap(tx, version.id, key_id=newest.id, wrapped_key=wrapped)
