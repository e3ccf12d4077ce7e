"""What a restore means for files: it brings rows back, and no key. On a database set back, with the real service."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from grpc import StatusCode

from deploy.stack.postgres import grant
from holdfast.usertoken.keys import Key, Keys, parse_keys, write_keys
from libs.crypto import SEGMENT_BYTES, new_key
from libs.secret import Secret
from services.backup.adapters.objects import Store
from services.backup.adapters.opening import Opening
from services.backup.domain.drill import Check
from services.backup.domain.errors import EngineFailed
from services.files.adapters.keyring import Keyring
from services.files.adapters.s3_keys import S3Keys
from tests.support.files import ROOTS, Files, Person, Service, refused

CONTENT = os.urandom(2 * SEGMENT_BYTES + 5)
NO_MEMORY = 0.0
DRAWS = 24  # each may pass over an erased file, and may not


class Copy:
    """Asked as a drill asks a restored copy; here it is the database itself."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ask(self, question: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._service.world.sql(question, *parameters)


@pytest.fixture
async def service(files: Files) -> AsyncIterator[Service]:
    """A service whose only rows and keys are those of the test."""
    files.world.sql("TRUNCATE files.versions, files.files")
    client = files.seaweed.client("files-keys")
    for one in client.list_objects_v2(Bucket="keys").get("Contents", []):
        client.delete_object(Bucket="keys", Key=one["Key"])
    async with files.service(key_cache_seconds=NO_MEMORY) as made:
        yield made


def store(service: Service) -> Store:
    """With the identities that drills have."""
    there = service.seaweed.seaweed
    pairs = [there.identities[name] for name in ("files-read", "files-keys-read")]
    texts = [text for pair in pairs for text in (pair.access_key, pair.secret_key)]
    one, two, three, four = (Secret(text.encode()) for text in texts)
    return Store(there.endpoint, "us-east-1", "files", str(there.ca_file), one, two, "keys", three, four)


async def opening(service: Service, *, roots: bytes = ROOTS, draw: float = 0.5, **changes: Any) -> Check:
    """What a deep drill's check says of the rows as they are, with these roots from the escrow."""
    copy: Any = Copy(service)
    try:
        return await Opening(copy, replace(store(service), **changes), roots, draw=lambda: draw).check()
    except EngineFailed as fault:
        return Check("file_opens", False, 0, fault.message)


async def erase(service: Service, person: Person) -> None:
    pair = service.seaweed.seaweed.identities["files-keys"]
    keys = S3Keys(
        endpoint=service.config.s3_endpoint, region="us-east-1", bucket="keys", access_key=pair.access_key,
        secret_key=Secret(pair.secret_key.encode()), ca_file=service.config.s3_ca_file, threads=1,
    )  # fmt: skip
    await Keyring(keys, lambda: parse_keys(ROOTS), str, remember_seconds=0).erase(person.who.user_id)
    await keys.stop()


@pytest.mark.control("B7", "each deep drill opens one restored file with its own key from the escrow")
@pytest.mark.parametrize("content", [b"", b"short", CONTENT])
async def test_a_file_opens_with_identities_that_read_and_the_escrowed_roots(service: Service, content: bytes) -> None:
    await service.person().upload("a", content)
    found = await opening(service)
    assert (found.ok, found.made, found.count) == (True, True, 1), found
    later = write_keys(Keys(Key("c", new_key()), None, parse_keys(ROOTS).current))
    assert (await opening(service, roots=later)).ok


@pytest.mark.control("B7", "each deep drill opens one restored file with its own key from the escrow")
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"roots": b""}, "holds no root keys of files: export another"),
        ({"endpoint": ""}, "no object store is configured"),
        ({"keys_access_key": Secret(b"")}, "no identity that may read users' keys"),
        ({"keys_secret_key": Secret(b"x" * 32)}, "refuses the drill: SignatureDoesNotMatch"),
        ({"endpoint": "https://127.0.0.1:9"}, "is away"),
    ],
)
async def test_what_cannot_be_asked_is_not_made_and_says_why(
    service: Service, changed: dict[str, Any], why: str
) -> None:
    await service.person().upload("a", CONTENT)
    found = await opening(service, **changed)
    assert (found.made, found.ok) == (False, False)
    assert why in found.detail
    assert (await opening(service)).ok


async def test_without_a_file_there_is_nothing_to_open_and_that_is_not_ok(service: Service) -> None:
    found = await opening(service)
    assert (found.made, found.ok, found.detail) == (False, False, "no file")


@pytest.mark.control("B7", "each deep drill opens one restored file with its own key from the escrow")
async def test_a_file_that_does_not_open_fails_the_check(service: Service) -> None:
    person = service.person()
    await person.upload("a", CONTENT)
    files, keys = service.seaweed.client("files"), service.seaweed.client("files-keys")
    [name] = service.objects(person.who)
    [held] = keys.list_objects_v2(Bucket="keys", Prefix=person.who.user_id)["Contents"]
    kept = {("files", name): files.get_object(Bucket="files", Key=name)["Body"].read()}
    kept["keys", held["Key"]] = keys.get_object(Bucket="keys", Key=held["Key"])["Body"].read()
    stranger = write_keys(Keys(Key("a", new_key()), Key("b", new_key())))
    unknown = write_keys(Keys(Key("z", new_key())))

    async def spoiled(spoil: Callable[[], object], *, roots: bytes = ROOTS) -> str:
        assert (await opening(service)).ok
        spoil()
        found = await opening(service, roots=roots)
        for (bucket, key), content in kept.items():
            (files if bucket == "files" else keys).put_object(Bucket=bucket, Key=key, Body=content)
        assert found.failed, found
        return found.detail

    box = kept["files", name]
    assert "does not hold the root key a" in await spoiled(lambda: None, roots=unknown)
    assert "does not open with the keys it names" in await spoiled(lambda: None, roots=stranger)
    for bad in (box[:-1] + bytes([box[-1] ^ 1]), box[:-20], b"", box + b"x"):
        spoil = lambda bad=bad: files.put_object(Bucket="files", Key=name, Body=bad)  # noqa: E731
        assert "does not open with the keys it names" in await spoiled(spoil)
    assert "its object is not in the store" in await spoiled(lambda: files.delete_object(Bucket="files", Key=name))
    gone = await spoiled(lambda: keys.delete_object(Bucket="keys", Key=held["Key"]))
    assert "the user's key is not in the store, and nothing says that it was erased" in gone
    digest = "UPDATE files.versions SET sha256 = %s WHERE user_id = %s RETURNING id"
    assert "other bytes" in await spoiled(lambda: service.world.sql(digest, bytes(32), person.who.user_id))
    service.world.sql(digest, hashlib.sha256(CONTENT).digest(), person.who.user_id)
    assert (await opening(service)).ok


@pytest.mark.control("B7", "erased keys stay erased: nothing but the named files is escrowed")
@pytest.mark.control("F4", "a restored database does not bring an erased file back")
async def test_an_erased_file_is_passed_over_and_what_was_left_of_an_erasure_is_found(service: Service) -> None:
    ada, zoe = service.person(), service.person()
    for person in (ada, zoe):
        await person.upload("a", CONTENT)
    await erase(service, ada)
    seen = [await opening(service, draw=number / 7) for number in range(DRAWS)]
    assert {check.ok for check in seen} == {True}
    passed = [check.detail for check in seen if "1 of erased keys were passed over, and stayed erased" in check.detail]
    assert 0 < len(passed) < DRAWS
    keys = service.seaweed.client("files-keys")
    [held] = keys.list_objects_v2(Bucket="keys", Prefix=zoe.who.user_id)["Contents"]
    content = keys.get_object(Bucket="keys", Key=held["Key"])["Body"].read()
    await erase(service, zoe)
    found = await opening(service)
    assert (found.made, found.ok) == (False, False)
    assert found.detail == "no file that was drawn can be opened any more: 2 are of erased keys"
    keys.put_object(Bucket="keys", Key=held["Key"], Body=content)
    seen = [await opening(service, draw=number / 7) for number in range(DRAWS)]
    assert any("although they were erased" in check.detail for check in seen if check.failed)
    assert not any(check.ok for check in seen)


@pytest.mark.control("F4", "a restored database does not bring an erased file back")
async def test_a_database_set_back_to_before_an_erasure_has_the_rows_and_not_the_files(
    files: Files, service: Service
) -> None:
    ada, zoe = service.person(), service.person()
    stored, theirs = await ada.upload("a", CONTENT), await zoe.upload("a", b"of zoe")
    before = f"{files.world.database.name}_before"
    copied(files, before)
    assert await ada.download(stored.name) == CONTENT
    async with files.service(database_name=before, key_cache_seconds=NO_MEMORY) as restored:
        # The control: until the keys are erased, the database set back serves the file.
        assert await restored.person(ada.who).download(stored.name) == CONTENT
    await erase(service, ada)
    async with files.service(database_name=before, key_cache_seconds=NO_MEMORY) as restored:
        with refused(StatusCode.NOT_FOUND, "FILES_ERASED"):
            await restored.person(ada.who).download(stored.name)
        assert (await restored.person(ada.who).http.get("/v1/files/a")).status_code == 410
        with refused(StatusCode.NOT_FOUND, "FILES_ERASED"):
            await restored.person(ada.who).upload("b", b"new")
        assert (await restored.person(ada.who).http.head("/v1/files/a")).status_code == 200  # the row is back
        assert await restored.person(zoe.who).download(theirs.name) == b"of zoe"


def copied(files: Files, name: str) -> None:
    """The database as it is now under another name, with its privileges."""
    database = files.world.database
    with database.cluster.admin() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name])
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{database.name}"'.encode())
    grant(database.cluster, name)
