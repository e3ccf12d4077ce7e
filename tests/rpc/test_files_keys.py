"""Users' keys in their whole life: changed, renewed under another root, retired, erased."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from grpc import StatusCode

from holdfast.files.v1 import file_service_pb2 as pb
from holdfast.usertoken.keys import Key, Keys, parse_keys, write_keys
from libs import jobqueue
from libs.ids import new_id
from libs.principal import Principal, System, User
from libs.secret import Secret
from services.files.adapters.keyring import Keyring
from services.files.adapters.s3_keys import S3Keys
from services.files.domain.errors import KeyMissing
from services.files.domain.job import EraseFiles, RenewKeys, RetireKey
from services.files.ops.keys import Keys as KeyVerbs
from tests.support.files import MIB, ROOTS, Files, Person, Service, refused, until

NO_MEMORY = 0.0
"""Of keys, so that nothing depends on which replica did the work."""


@pytest.fixture(scope="module")
async def service(files: Files) -> AsyncIterator[Service]:
    client = files.seaweed.client("files-keys")
    for one in client.list_objects_v2(Bucket="keys").get("Contents", []):  # of other tests, under their own roots
        client.delete_object(Bucket="keys", Key=one["Key"])
    async with files.service(key_cache_seconds=NO_MEMORY) as made:
        yield made


async def put(service: Service, who: Principal, *jobs: Any) -> None:
    """Put *jobs* as *who* and wait until they have ended well."""
    database = service.world.database.connect("files")
    async with database.begin(who) as tx:
        made = [await jobqueue.put(tx, job) for job in jobs]
    await ended(service, made)


async def ended(service: Service, jobs: Sequence[str]) -> None:
    def done() -> bool:
        found = service.world.sql("SELECT id FROM jobs.history WHERE outcome = 'done' AND id = ANY(%s)", list(jobs))
        return len(found) == len(jobs)

    await until(done)


def key_ids(service: Service, who: User) -> list[str]:
    """The user's keys in the store."""
    listed = service.seaweed.client("files-keys").list_objects_v2(Bucket="keys", Prefix=f"{who.user_id}/")
    return [str(one["Key"]).partition("/")[2] for one in listed.get("Contents", [])]


def named(service: Service, who: User) -> list[str]:
    """The keys that rows of the user name, each once."""
    rows = service.world.sql("SELECT DISTINCT key_id FROM files.versions WHERE user_id = %s ORDER BY 1", who.user_id)
    return [str(row[0]) for row in rows]


def retirements(service: Service, who: User) -> list[tuple[str, float]]:
    """(key id, seconds from its making) of each retirement that waits."""
    rows = service.world.sql(
        "SELECT payload->>'key_id', extract(epoch FROM run_at - created_at) FROM jobs.jobs"
        " WHERE type = 'retire_key' AND user_id = %s ORDER BY 1",
        who.user_id,
    )
    return [(str(row[0]), float(str(row[1]))) for row in rows]


async def rotated(files: Files, person: Person, service: Service) -> None:
    """Have the next upload find the key past its life."""
    [*_, before] = key_ids(service, person.who)
    async with files.service(key_cache_seconds=NO_MEMORY, key_life_seconds=0) as other:
        await other.person(person.who).upload("turns", b"the key")
        await until(lambda: "rotate_key" in service.finished_jobs(person.who))
    assert key_ids(service, person.who)[-1] > before


@pytest.mark.control("F4", "users' keys and root keys rotate, and every file stays readable")
async def test_a_key_past_its_life_is_changed_and_every_version_is_wrapped_by_the_new_one(
    files: Files, service: Service
) -> None:
    person, neighbour = service.person(), service.person()
    contents = {"a": os.urandom(10), "b": os.urandom(MIB), "c": b""}
    stored = [await person.upload(path, content) for path, content in contents.items()]
    await person.upload("a", b"replaces")  # so that a superseded version is among them
    stored[0] = await person.upload("a", contents["a"])
    theirs = await neighbour.upload("a", b"of the neighbour")
    first, others = key_ids(service, person.who), key_ids(service, neighbour.who)
    await rotated(files, person, service)
    [old, new] = key_ids(service, person.who)
    assert ([old], [new]) == (first, named(service, person.who))
    for one in stored:
        assert await person.download(one.name) == contents[one.path]
    after = await person.upload("d", b"sealed by the new one")
    assert await person.download(after.name) == b"sealed by the new one"
    assert named(service, person.who) == [new]
    assert "key.rotated" in service.audit(person.who)
    assert (key_ids(service, neighbour.who), await neighbour.download(theirs.name)) == (others, b"of the neighbour")


@pytest.mark.control("F4", "users' keys and root keys rotate, and every file stays readable")
async def test_an_old_key_is_kept_as_long_as_the_oldest_backup_and_then_goes_for_good(
    files: Files, service: Service
) -> None:
    person = service.person()
    stored = await person.upload("a", b"content")
    before = service.world.sql("SELECT wrapped_key FROM files.versions WHERE user_id = %s", person.who.user_id)
    await rotated(files, person, service)
    [old, new] = key_ids(service, person.who)
    [(retired, seconds)] = retirements(service, person.who)
    assert (retired, seconds > service.config.recovery_seconds) == (old, True)
    # A database restored from before the change names the old key, and its files are readable.
    row = "UPDATE files.versions SET key_id = %s, wrapped_key = %s WHERE user_id = %s AND path = 'a' RETURNING id"
    service.world.sql(row, old, before[0][0], person.who.user_id)
    assert await person.download(stored.name) == b"content"
    await put(service, person.who, RetireKey(old))
    assert (key_ids(service, person.who), named(service, person.who)) == (
        [old, new],
        [new],
    )  # it was named, so it waits
    await put(service, person.who, RetireKey(old), RetireKey(new))
    assert key_ids(service, person.who) == [new]
    assert await person.download(stored.name) == b"content"


async def test_the_newest_key_is_not_retired_though_nothing_names_it_yet(service: Service) -> None:
    person = service.person()
    async with verbs(service, parse_keys(ROOTS)) as keys:
        await keys.rotate(person.who, "")
        [made] = key_ids(service, person.who)
        await keys.retire(person.who, made)
        assert key_ids(service, person.who) == [made]
        await keys.rotate(person.who, made)
        await keys.retire(person.who, made)
    assert key_ids(service, person.who) == [one for one in key_ids(service, person.who) if one > made] != []


@pytest.mark.control("F4", "users' keys and root keys rotate, and every file stays readable")
async def test_root_keys_rotate_by_their_list_and_a_former_one_can_be_given_up(files: Files, service: Service) -> None:
    person = service.person()
    stored = await person.upload("a", b"under the first root")
    roots = parse_keys(ROOTS)
    assert roots.standby is not None
    third = Key("c", hashlib.sha256(b"a third root of the tests").digest())
    both, alone = write_keys(Keys(roots.standby, third, roots.current)), write_keys(Keys(roots.standby, third))
    async with files.service(roots=alone, key_cache_seconds=NO_MEMORY) as later:
        with refused(StatusCode.INTERNAL, "INTERNAL"):
            await later.person(person.who).download(stored.name)
    async with files.service(roots=both, key_cache_seconds=NO_MEMORY) as between:
        assert await between.person(person.who).download(stored.name) == b"under the first root"
    async with verbs(service, parse_keys(both)) as keys:
        assert await keys.renew() > 0
        assert await keys.renew() == 0
    async with files.service(roots=alone, key_cache_seconds=NO_MEMORY) as later:
        assert await later.person(person.who).download(stored.name) == b"under the first root"
    assert await person.download(stored.name) == b"under the first root"  # the first service knows it as its standby
    async with verbs(service, roots) as keys:
        assert await keys.renew() > 0
    async with files.service(roots=write_keys(Keys(roots.current)), key_cache_seconds=NO_MEMORY) as earlier:
        assert await earlier.person(person.who).download(stored.name) == b"under the first root"


async def test_a_key_that_no_root_opens_is_told_and_does_not_keep_the_others_from_being_renewed(
    service: Service,
) -> None:
    roots = parse_keys(ROOTS)
    assert roots.standby is not None
    person, lost = service.person(), service.person()
    await person.upload("a", b"1")
    await lost.upload("a", b"1")
    [key] = key_ids(service, lost.who)
    client, name = service.seaweed.client("files-keys"), f"{lost.who.user_id}/{key}"
    content = client.get_object(Bucket="keys", Key=name)["Body"].read()
    client.put_object(Bucket="keys", Key=name, Body=content.replace(b'"a"', b'"z"'))
    async with verbs(service, Keys(roots.standby, None, roots.current)) as keys:
        with pytest.raises(KeyMissing, match="1 keys of users"):
            await keys.renew()
        client.put_object(Bucket="keys", Key=name, Body=content)
        assert await keys.renew() == 1
    async with verbs(service, roots) as keys:
        assert await keys.renew() > 1


@asynccontextmanager
async def verbs(service: Service, roots: Keys) -> AsyncIterator[KeyVerbs]:
    """The verbs with these roots: a job may go to any replica."""
    pair = service.seaweed.seaweed.identities["files-keys"]
    store = S3Keys(
        endpoint=service.config.s3_endpoint,
        region=service.config.s3_region,
        bucket="keys",
        access_key=pair.access_key,
        secret_key=Secret(pair.secret_key.encode()),
        ca_file=service.config.s3_ca_file,
        threads=2,
    )
    begin = service.world.database.connect("files").begin
    yield KeyVerbs(begin, Keyring(store, lambda: roots, new_id, remember_seconds=0), kept=timedelta())
    await store.stop()


@pytest.mark.control("F4", "deleting a user's key makes every file of the user unreadable, and no new key is made")
async def test_after_an_erasure_no_file_is_readable_none_can_be_stored_and_others_notice_nothing(
    service: Service,
) -> None:
    person, neighbour = service.person(), service.person()
    stored = [await person.upload(path, content) for path, content in (("a", b"1"), ("b", os.urandom(MIB)), ("c", b""))]
    theirs = await neighbour.upload("a", b"of the neighbour")
    assert [len(await person.download(one.name)) for one in stored] == [1, MIB, 0]
    await put(service, person.who, EraseFiles())
    for one in stored:
        with refused(StatusCode.NOT_FOUND, "FILES_ERASED"):
            await person.download(one.name)
        with refused(StatusCode.NOT_FOUND, "FILES_ERASED"):
            await person.download(one.name, length=1)
        answer = await person.http.get(f"/v1/files/{one.path}")
        assert (answer.status_code, answer.json()["error"]["reason"]) == (410, "FILES_ERASED")
    with refused(StatusCode.NOT_FOUND, "FILES_ERASED"):
        await person.upload("d", b"2")
    assert (await person.http.put("/v1/files/d", content=b"2")).status_code == 410
    assert key_ids(service, person.who) == ["erased"]
    assert len(service.versions(person.who)) == 3  # nothing was begun
    assert service.audit(person.who).count("files.erased") == 1
    assert await neighbour.download(theirs.name) == b"of the neighbour"


@pytest.mark.control("F4", "deleting a user's key makes every file of the user unreadable, and no new key is made")
async def test_an_erased_users_files_are_still_deleted_and_removed_and_no_job_brings_a_key_back(
    files: Files,
) -> None:
    async with files.service(key_cache_seconds=NO_MEMORY, recovery_seconds=0) as service:
        person = service.person()
        stored = await person.upload("a", b"1")
        [key] = key_ids(service, person.who)
        await put(service, person.who, EraseFiles(), EraseFiles())
        await put(service, person.who, RetireKey(key))
        assert key_ids(service, person.who) == ["erased"]
        await person.stub.DeleteFile(pb.DeleteFileRequest(name=stored.name))
        await until(lambda: service.versions(person.who) == [])
        assert service.objects(person.who) == set()


async def test_a_key_left_beside_the_mark_of_an_erasure_opens_nothing_and_is_removed_by_the_daily_round(
    service: Service,
) -> None:
    person = service.person()
    stored = await person.upload("a", b"1")
    [key] = key_ids(service, person.who)
    client, name = service.seaweed.client("files-keys"), f"{person.who.user_id}/{key}"
    content = client.get_object(Bucket="keys", Key=name)["Body"].read()
    await put(service, person.who, EraseFiles())
    client.put_object(Bucket="keys", Key=name, Body=content)
    with refused(StatusCode.NOT_FOUND, "FILES_ERASED"):
        await person.download(stored.name)
    await put(service, System("files"), RenewKeys())
    assert key_ids(service, person.who) == ["erased"]


async def test_uploads_and_downloads_go_on_while_a_key_is_changed(files: Files, service: Service) -> None:
    person = service.person()
    stored = [await person.upload(f"{number}", f"{number}".encode()) for number in range(20)]

    async def reading() -> None:
        for one in stored * 3:
            assert (await person.download(one.name)).decode() == one.path

    async def writing() -> list[pb.File]:
        return [await person.upload(f"new{number}", f"new{number}".encode()) for number in range(20)]

    _, _, more = await asyncio.gather(rotated(files, person, service), reading(), writing())
    for one in [*stored, *more]:
        assert (await person.download(one.name)).decode() == one.path
