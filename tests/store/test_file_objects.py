"""The object store adapter against a real SeaweedFS: bytes, ranges, limits, memory and whose keys."""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from libs.ids import new_id
from libs.secret import Secret
from services.files.adapters.s3 import PART_BYTES, S3Objects
from services.files.domain.errors import (
    BytesMissing,
    ForeignObject,
    LengthMismatch,
    StoreUnavailable,
)
from services.files.domain.key import object_key
from services.files.domain.span import Span
from tests.support.seaweed import SeaweedServer

MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def objects(seaweed: SeaweedServer) -> AsyncIterator[S3Objects]:
    pair = seaweed.seaweed.identities["files"]
    made = S3Objects(
        endpoint=seaweed.seaweed.endpoint,
        region="us-east-1",
        bucket="files",
        access_key=pair.access_key,
        secret_key=Secret(pair.secret_key.encode()),
        ca_file=str(seaweed.seaweed.ca_file),
        threads=4,
    )
    yield made
    await made.stop()


async def chunks(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def fetched(objects: S3Objects, user: str, key: str, span: Span) -> bytes:
    async with objects.read(user, key, span) as content:
        return b"".join([chunk async for chunk in content])


async def absent(objects: S3Objects, user: str, key: str) -> bool:
    try:
        await fetched(objects, user, key, Span(0, 1))
    except BytesMissing:
        return True
    return False


def own_key() -> tuple[str, str]:
    user = new_id()
    return user, object_key(user, new_id(), new_id())


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 20 * MIB + 7])
async def test_what_is_stored_comes_back_byte_for_byte(objects: S3Objects, size: int) -> None:
    user, key = own_key()
    content = os.urandom(size)
    await objects.put(user, key, chunks(content), size_bytes=size)
    assert await fetched(objects, user, key, Span(0, size)) == content


async def test_a_range_is_exactly_its_bytes_also_over_part_borders(objects: S3Objects) -> None:
    user, key = own_key()
    content = os.urandom(PART_BYTES + MIB)
    await objects.put(user, key, chunks(content), size_bytes=len(content))
    for span in (Span(0, 1), Span(PART_BYTES - 3, 7), Span(len(content) - 1, 1), Span(5, 2 * MIB)):
        assert await fetched(objects, user, key, span) == content[span.start : span.start + span.length]


@pytest.mark.control("T7", "a key whose first segment is not the caller's id is refused in the storage layer")
async def test_anothers_object_can_be_neither_written_read_nor_removed(objects: S3Objects) -> None:
    owner, key = own_key()
    stranger = new_id()
    await objects.put(owner, key, chunks(b"mine"), size_bytes=4)
    with pytest.raises(ForeignObject):
        await objects.put(stranger, key, chunks(b"evil"), size_bytes=4)
    with pytest.raises(ForeignObject):
        await fetched(objects, stranger, key, Span(0, 4))
    with pytest.raises(ForeignObject):
        await objects.remove(stranger, key)
    assert await fetched(objects, owner, key, Span(0, 4)) == b"mine"
    await objects.remove(owner, key)
    assert await absent(objects, owner, key)


@pytest.mark.parametrize("size", [10, PART_BYTES + MIB])
@pytest.mark.parametrize("off_by", [-1, 1])
async def test_a_body_of_another_length_than_declared_stores_nothing(
    objects: S3Objects, size: int, off_by: int
) -> None:
    user, key = own_key()
    with pytest.raises(LengthMismatch):
        await objects.put(user, key, chunks(os.urandom(size + off_by)), size_bytes=size)
    assert await absent(objects, user, key)


async def test_a_body_that_breaks_off_leaves_neither_object_nor_parts(
    objects: S3Objects, seaweed: SeaweedServer
) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        for _ in range(2 * PART_BYTES // MIB + 1):
            yield os.urandom(MIB)
        raise ConnectionResetError

    user, key = own_key()
    with pytest.raises(ConnectionResetError):
        await objects.put(user, key, breaking(), size_bytes=5 * PART_BYTES)
    assert await absent(objects, user, key)
    assert open_uploads(seaweed, key) == 0


async def test_removing_ends_an_upload_that_a_crash_left_open(objects: S3Objects, seaweed: SeaweedServer) -> None:
    user, key = own_key()
    seaweed.client("files").create_multipart_upload(Bucket="files", Key=key)
    assert open_uploads(seaweed, key) == 1
    await objects.remove(user, key)
    assert open_uploads(seaweed, key) == 0
    await objects.remove(user, key)


async def test_an_upload_holds_few_parts_in_memory_however_long_it_is(objects: S3Objects) -> None:
    user, key = own_key()
    block = os.urandom(MIB)

    async def long() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield block

    tracemalloc.start()
    try:
        await objects.put(user, key, long(), size_bytes=80 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * MIB


async def test_a_cancelled_upload_stores_nothing(objects: S3Objects, seaweed: SeaweedServer) -> None:
    user, key = own_key()
    under_way, never = asyncio.Event(), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield os.urandom(PART_BYTES + 1)
        under_way.set()
        await never.wait()

    task = asyncio.create_task(objects.put(user, key, stalling(), size_bytes=3 * PART_BYTES))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await absent(objects, user, key)
    assert open_uploads(seaweed, key) == 0


async def test_a_store_that_is_away_is_unavailable_and_is_used_again_when_it_is_back(
    objects: S3Objects, seaweed: SeaweedServer
) -> None:
    user, key = own_key()
    await objects.put(user, key, chunks(b"kept"), size_bytes=4)
    seaweed.kill()
    try:
        with pytest.raises(StoreUnavailable) as refused:
            await fetched(objects, user, key, Span(0, 4))
        assert refused.value.retry_after_seconds
        with pytest.raises(StoreUnavailable):
            await objects.put(user, key, chunks(b"lost"), size_bytes=4)
        with pytest.raises(StoreUnavailable):
            await objects.probe()
    finally:
        await asyncio.to_thread(seaweed.start)
    assert await fetched(objects, user, key, Span(0, 4)) == b"kept"


def open_uploads(seaweed: SeaweedServer, key: str) -> int:
    answer = seaweed.client("files").list_multipart_uploads(Bucket="files", Prefix=key)
    return len(answer.get("Uploads", []))
