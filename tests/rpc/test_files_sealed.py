"""Files at rest: what lies in the store and in the database opens nowhere but through the service."""

import asyncio
import hashlib
import os
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from grpc import StatusCode

from holdfast.usertoken.keys import parse_keys
from libs.crypto import SEGMENT_BYTES, Damaged, envelope, sealed_size, unwrap
from libs.principal import User
from services.files.adapters.s3_keys import S3Keys
from tests.support.files import MIB, ROOTS, Files, Person, Service, header, refused, uploading

CANARY = b"a canary that sings in no store: \xc3\xa9\xed\x95\x9c"


def raw(service: Service, person: Person) -> dict[str, bytes]:
    """Everything the store has of a person's files."""
    client = service.seaweed.client("files")
    return {key: client.get_object(Bucket="files", Key=key)["Body"].read() for key in service.objects(person.who)}


def put_raw(service: Service, key: str, content: bytes) -> None:
    service.seaweed.client("files").put_object(Bucket="files", Key=key, Body=content)


def row(service: Service, who: User) -> tuple[str, str, bytes]:
    """(version id, key id, wrapped key) of somebody's one version."""
    [(version, key_id, wrapped)] = service.world.sql(
        "SELECT id, key_id, wrapped_key FROM files.versions WHERE user_id = %s", who.user_id
    )
    return str(version), str(key_id), bytes(wrapped)


@pytest.mark.control("F4", "the raw object holds nothing of a file's bytes")
@pytest.mark.parametrize("size", [len(CANARY), 3 * SEGMENT_BYTES, 17 * MIB])
async def test_a_canary_in_a_file_is_not_in_the_raw_object_and_comes_back_by_download(
    service: Service, size: int
) -> None:
    person = service.person()
    content = (CANARY * (size // len(CANARY) + 1))[:size]
    stored = await person.upload("canary", content)
    [box] = raw(service, person).values()
    assert len(box) == sealed_size(size)
    for piece in (CANARY, CANARY[:12], CANARY[-12:], hashlib.sha256(content).digest()):
        assert piece not in box
    put_raw(service, f"{person.who.user_id}/plain/plain", content)  # the control: a store that was given it shows it
    assert CANARY in raw(service, person)[f"{person.who.user_id}/plain/plain"]
    assert await person.download(stored.name) == content
    assert (await person.http.get("/v1/files/canary")).content == content
    assert (stored.size_bytes, stored.sha256) == (size, hashlib.sha256(content).digest())


@pytest.mark.control("F4", "the raw object holds nothing of a file's bytes")
async def test_the_same_bytes_twice_are_not_the_same_objects(service: Service) -> None:
    person = service.person()
    for path in ("a", "b"):
        await person.upload(path, CANARY)
    one, other = raw(service, person).values()
    assert not {one[at : at + 8] for at in range(len(one) - 8)} & {other[at : at + 8] for at in range(len(one) - 8)}


@pytest.mark.control("F4", "a range fetches and opens its own segments alone")
async def test_a_range_needs_its_own_segments_and_no_others(service: Service) -> None:
    person = service.person()
    content = os.urandom(5 * SEGMENT_BYTES + 100)
    stored = await person.upload("long", content)
    [(key, box)] = raw(service, person).items()
    third, fourth = 2 * (SEGMENT_BYTES + 16), 3 * (SEGMENT_BYTES + 16)
    put_raw(service, key, bytes(third) + box[third:fourth] + bytes(len(box) - fourth))
    begin, end = 2 * SEGMENT_BYTES, 3 * SEGMENT_BYTES
    assert await person.download(stored.name, offset=begin, length=SEGMENT_BYTES) == content[begin:end]
    part = await person.http.get("/v1/files/long", headers={"range": f"bytes={begin + 9}-{end - 1}"})
    assert (part.status_code, part.content) == (206, content[begin + 9 : end])
    for offset, length in ((begin - 1, 2), (end - 1, 2), (0, 0)):
        with refused(StatusCode.INTERNAL, "INTERNAL"):
            await person.download(stored.name, offset=offset, length=length)
    put_raw(service, key, box)
    assert await person.download(stored.name) == content


@pytest.mark.parametrize("size", [SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 9 * MIB + 3])
async def test_ranges_over_the_borders_of_segments_are_exactly_their_bytes(service: Service, size: int) -> None:
    person = service.person()
    content = os.urandom(size)
    stored = await person.upload("edges", content)
    for begin, length in ((0, 1), (size - 1, 1), (SEGMENT_BYTES - 2, 5), (size // 2, 0), (1, size - 1)):
        if begin < size:
            expected = content[begin : begin + length] if length else content[begin:]
            assert await person.download(stored.name, offset=begin, length=length) == expected
    tail = await person.http.get("/v1/files/edges", headers={"range": "bytes=-70000"})
    assert tail.content == content[-70000:]


@pytest.mark.control("F4", "a changed, moved, cut or foreign segment is refused")
async def test_an_object_that_was_tampered_with_is_refused_and_the_log_says_why(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    person = service.person()
    content = os.urandom(2 * SEGMENT_BYTES)
    kept, other = await person.upload("kept", content), await person.upload("other", content)
    (kept_key, box), (other_key, theirs) = sorted(raw(service, person).items())
    bent = bytes([box[0] ^ 1]) + box[1:]
    for bad in (bent, box[:-1] + bytes([box[-1] ^ 1]), theirs, box[SEGMENT_BYTES + 16 :] * 2):
        put_raw(service, kept_key, bad)
        with refused(StatusCode.INTERNAL, "INTERNAL"):
            await person.download(kept.name)
    put_raw(service, kept_key, bent)
    answer = await person.http.get("/v1/files/kept")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (500, "INTERNAL")
    told = [line for line in capsys.readouterr().out.splitlines() if "file_unreadable" in line]
    assert len(told) == 5
    assert all("why=BytesDamaged" in line for line in told)
    put_raw(service, kept_key, box)
    assert await person.download(kept.name) == await person.download(other.name) == content
    assert other_key != kept_key


@pytest.mark.control("F4", "data keys are wrapped by the user's key, and open in no other place")
async def test_a_row_opens_with_its_users_key_alone_and_not_in_anothers_row(service: Service) -> None:
    ada, zoe = service.person(), service.person()
    theirs, hers = await ada.upload("a", CANARY), await zoe.upload("a", b"of zoe")
    version, key_id, wrapped = row(service, ada.who)
    stored = service.seaweed.client("files-keys").get_object(Bucket="keys", Key=f"{ada.who.user_id}/{key_id}")
    roots = parse_keys(ROOTS)
    user_key = envelope.open_user_key(stored["Body"].read(), roots, user_id=ada.who.user_id, key_id=key_id)
    for secret in (user_key, roots.current.secret):
        assert secret not in wrapped
    assert len(unwrap(wrapped, user_key, "data key", ada.who.user_id, version, key_id)) == 32
    with pytest.raises(Damaged):
        unwrap(wrapped, user_key, "data key", ada.who.user_id, row(service, zoe.who)[0], key_id)
    service.world.sql(
        "UPDATE files.versions SET wrapped_key = %s WHERE user_id = %s RETURNING id", wrapped, zoe.who.user_id
    )
    with refused(StatusCode.INTERNAL, "INTERNAL"):
        await zoe.download(hers.name)
    assert await ada.download(theirs.name) == CANARY


@pytest.mark.control("F4", "users' keys lie outside the database, in a bucket and with an identity of their own")
async def test_nothing_in_the_database_opens_a_file_and_nothing_in_the_store_names_a_root(service: Service) -> None:
    person = service.person()
    await person.upload("a", CANARY)
    _, key_id, _ = row(service, person.who)
    name = f"{person.who.user_id}/{key_id}"
    stored = service.seaweed.client("files-keys").get_object(Bucket="keys", Key=name)["Body"].read()
    roots = parse_keys(ROOTS)
    user_key = envelope.open_user_key(stored, roots, user_id=person.who.user_id, key_id=key_id)
    tables = service.world.sql(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('files', 'jobs', 'audit', 'events')"
    )
    dumped = [str(line[0]) for (table,) in tables for line in service.world.sql(f"SELECT t::text FROM {table} t")]
    assert any(key_id in line for line in dumped)
    for secret in (user_key, roots.current.secret):
        assert not [line for line in dumped if secret.hex() in line]


async def test_an_empty_file_is_sealed_too_and_is_missed_when_its_object_is_gone(service: Service) -> None:
    person = service.person()
    stored = await person.upload("empty", b"")
    [(key, box)] = raw(service, person).items()
    assert (len(box), await person.download(stored.name)) == (16, b"")
    assert (await person.http.get("/v1/files/empty")).content == b""
    service.seaweed.client("files").delete_object(Bucket="files", Key=key)
    with refused(StatusCode.INTERNAL, "INTERNAL"):
        await person.download(stored.name)


@pytest.mark.control("F2", "a stream is stopped at its declared length")
@pytest.mark.parametrize("size", [10, 9 * MIB])
async def test_a_body_with_another_digest_than_declared_stores_nothing(service: Service, size: int) -> None:
    person = service.person()
    content = os.urandom(size)
    with refused(StatusCode.INVALID_ARGUMENT, "CHECKSUM_MISMATCH"):
        await person.upload("a", content, sha256=bytes(32))
    assert service.objects(person.who) == set()
    await person.upload("a", content, sha256=hashlib.sha256(content).digest())
    assert len(service.objects(person.who)) == 1


@pytest.mark.control("F4", "two first uploads at once end with keys that both stay readable")
async def test_first_uploads_at_once_on_two_replicas_are_all_readable_on_both(files: Files, service: Service) -> None:
    async with files.service() as other:
        person = service.person()
        also = other.person(person.who)
        contents = {f"{number}": os.urandom(100) for number in range(8)}
        stored = await asyncio.gather(
            *((also if int(path) % 2 else person).upload(path, content) for path, content in contents.items())
        )
        for one in stored:
            assert await person.download(one.name) == await also.download(one.name) == contents[one.path]


async def test_a_row_from_before_encryption_is_refused_in_words_and_can_be_replaced(service: Service) -> None:
    person = service.person()
    stored = await person.upload("old", b"one")
    service.world.sql(
        "UPDATE files.versions SET key_id = '', wrapped_key = '' WHERE user_id = %s RETURNING id", person.who.user_id
    )
    answer = await person.http.get("/v1/files/old")
    assert (answer.status_code, "before files were encrypted" in answer.text) == (500, True)
    await person.upload("old", b"two")
    assert await person.download(stored.name) == b"two"


async def test_while_the_keys_are_away_nothing_is_begun_and_the_reader_is_told_to_come_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, asked = service.person(), []

    async def body() -> Any:
        async for message in uploading(header(person.who, "a", b"x"), b"x"):
            asked.append(message)
            yield message

    def away(*_: Any, **__: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://keys")

    assert service.app is not None
    [keys] = [part for part in service.app.parts if isinstance(part, S3Keys)]
    with monkeypatch.context() as patched:
        patched.setattr(keys._client, "list_objects_v2", away)
        with refused(StatusCode.UNAVAILABLE, "UNAVAILABLE"):
            await person.stub.UploadFile(body())
        assert service.versions(person.who) == []
    await person.upload("a", b"x")
