"""Users' keys in a real SeaweedFS: made once or twice, remembered shortly, erased for good."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.usertoken.keys import Key, Keys
from libs.crypto import new_key
from libs.ids import new_id
from libs.secret import Secret
from services.files.adapters import keyring as keyring_
from services.files.adapters.keyring import Keyring
from services.files.adapters.s3_keys import S3Keys
from services.files.domain.errors import ForeignObject, KeyMissing, KeysErased, StoreUnavailable
from tests.support.seaweed import SeaweedServer

ROOTS = Keys(Key("r1", new_key()), Key("r2", new_key()))


@pytest.fixture(scope="module")
async def store(seaweed: SeaweedServer) -> AsyncIterator[S3Keys]:
    pair = seaweed.seaweed.identities["files-keys"]
    made = S3Keys(
        endpoint=seaweed.seaweed.endpoint,
        region="us-east-1",
        bucket="keys",
        access_key=pair.access_key,
        secret_key=Secret(pair.secret_key.encode()),
        ca_file=str(seaweed.seaweed.ca_file),
        threads=4,
    )
    yield made
    await made.stop()


@dataclass(slots=True)
class Ticks:
    """A clock the test turns."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def ring(store: Any, tick: Callable[[], float] | None = None, *, roots: Keys = ROOTS) -> Keyring:
    """A replica's."""
    return Keyring(store, lambda: roots, new_id, remember_seconds=60, tick=tick or Ticks())


async def test_the_first_use_makes_a_key_and_every_replica_finds_it(store: S3Keys) -> None:
    user = new_id()
    assert await store.ids(user) == []
    made = await ring(store).current(user)
    assert len(made.secret) == 32
    assert made.secret.hex() not in repr(made)
    other = ring(store)
    assert await other.current(user) == made
    assert await other.find(user, made.id) == made
    assert await store.ids(user) == [made.id]


@pytest.mark.control("F4", "two first uploads at once end with keys that both stay readable")
async def test_replicas_that_make_a_first_key_at_once_make_keys_that_all_open(store: S3Keys) -> None:
    user, replicas = new_id(), [ring(store) for _ in range(8)]
    made = await asyncio.gather(*(one.current(user) for one in replicas))
    assert len({one.id for one in made}) > 1  # else nothing ran at once
    for key in made:
        assert await ring(store).find(user, key.id) == key
    assert (await ring(store).current(user)).id == max(one.id for one in made)


@pytest.mark.control("F4", "data keys are wrapped by the user's key, and open in no other place")
async def test_a_stored_key_is_wrapped_and_opens_under_no_other_name(store: S3Keys, seaweed: SeaweedServer) -> None:
    ada, zoe = new_id(), new_id()
    key = await ring(store).current(ada)
    raw = seaweed.client("files-keys").get_object(Bucket="keys", Key=f"{ada}/{key.id}")["Body"].read()
    assert json.loads(raw)["root"] == "r1"
    assert key.secret not in raw
    await store.put(zoe, key.id, raw)
    with pytest.raises(KeyMissing):
        await ring(store).find(zoe, key.id)
    with pytest.raises(KeyMissing):
        await ring(store, roots=Keys(Key("r9", new_key()))).find(ada, key.id)
    with pytest.raises(KeyMissing):
        await ring(store).find(ada, new_id())
    assert await ring(store).find(ada, key.id) == key


@pytest.mark.control("T7", "a key whose first segment is not the caller's id is refused in the storage layer")
@pytest.mark.parametrize("user", ["", "a/b", "../a", "A", "a b"])
async def test_a_name_that_is_not_made_of_ids_reaches_no_store(store: S3Keys, user: str) -> None:
    for call in (store.ids(user), store.get(user, "k"), store.put(user, "k", b""), store.erase(user)):
        with pytest.raises(ForeignObject):
            await call
    with pytest.raises(ForeignObject):
        await store.get("a", "k/../l")


@pytest.mark.control("F4", "deleting a user's key makes every file of the user unreadable, and no new key is made")
async def test_an_erased_key_is_gone_and_no_other_is_made(store: S3Keys, seaweed: SeaweedServer) -> None:
    user, neighbour = new_id(), new_id()
    here = ring(store)
    keys = [await here.current(user), await here.make(user)]
    kept = await here.current(neighbour)
    await here.erase(user)
    await here.erase(user)
    for key in keys:
        for replica in (here, ring(store)):
            with pytest.raises(KeysErased):
                await replica.find(user, key.id)
    for make in (here.current, here.make, ring(store).current):
        with pytest.raises(KeysErased):
            await make(user)
    listed = seaweed.client("files-keys").list_objects_v2(Bucket="keys", Prefix=f"{user}/")["Contents"]
    assert [one["Key"] for one in listed] == [f"{user}/erased"]
    assert await ring(store).find(neighbour, kept.id) == kept


@pytest.mark.control("F4", "deleting a user's key makes every file of the user unreadable, and no new key is made")
async def test_the_bucket_of_keys_keeps_no_version_of_what_was_deleted(store: S3Keys, seaweed: SeaweedServer) -> None:
    user = new_id()
    key = await ring(store).current(user)
    setup = seaweed.client("setup")
    assert setup.get_bucket_versioning(Bucket="keys").get("Status") in (None, "Suspended")
    await ring(store).erase(user)
    found = setup.list_object_versions(Bucket="keys", Prefix=f"{user}/{key.id}")
    assert (found.get("Versions", []), found.get("DeleteMarkers", [])) == ([], [])


@pytest.mark.control("F4", "deleting a user's key makes every file of the user unreadable, and no new key is made")
async def test_a_key_made_while_the_others_are_being_erased_is_not_left(store: S3Keys) -> None:
    user = new_id()

    class Late(S3Keys):
        """Lets the erasure happen between the look for keys and the storing of a first one."""

        async def put(self, user_id: str, key_id: str, wrapped: bytes) -> None:
            await store.erase(user_id)
            await store.put(user_id, key_id, wrapped)

    late = object.__new__(Late)
    late.__dict__.update(store.__dict__)
    with pytest.raises(KeysErased):
        await ring(late).current(user)
    assert await late._listed(user) == ["erased"]


async def test_another_replica_remembers_an_erased_key_for_its_time_and_no_longer(store: S3Keys) -> None:
    user, tick = new_id(), Ticks()
    other = ring(store, tick)
    key = await other.current(user)
    await ring(store).erase(user)
    tick.now = 59.9
    assert await other.find(user, key.id) == key
    tick.now = 60.0
    with pytest.raises(KeysErased):
        await other.find(user, key.id)
    with pytest.raises(KeysErased):
        await other.current(user)


@contextmanager
def most(keys: int) -> Iterator[None]:
    before, keyring_.MOST = keyring_.MOST, keys
    try:
        yield
    finally:
        keyring_.MOST = before


async def test_no_more_keys_are_remembered_than_was_said(store: S3Keys) -> None:
    here = ring(store)
    with most(4):
        for _ in range(6):
            await here.current(new_id())
            assert len(here._known) <= 4


async def test_a_store_that_is_away_is_unavailable_and_makes_no_key(store: S3Keys, seaweed: SeaweedServer) -> None:
    user = new_id()
    key = await ring(store).current(user)
    seaweed.kill()
    try:
        for call in (ring(store).current(user), ring(store).find(user, key.id)):
            with pytest.raises(StoreUnavailable):
                await call
    finally:
        await asyncio.to_thread(seaweed.start)
    assert await ring(store).current(user) == key
