"""Sealed streams and wrapped keys: what comes back, and everything that must not."""

import os
from collections.abc import AsyncIterator, Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.usertoken.keys import Key, Keys, write_keys
from libs import crypto
from libs.crypto import SEGMENT_BYTES, Damaged, cut, envelope, new_key, seal, sealed_size, unseal, unwrap, wrap

SEALED_BYTES = SEGMENT_BYTES + 16
SIZES = [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES, 3 * SEGMENT_BYTES + 7]
KEY = new_key()


async def chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def sealed(content: bytes, *bound: str, key: bytes = KEY, chunk: int = 50_000) -> bytes:
    return b"".join([part async for part in seal(chunks(content, chunk), key, *bound, size_bytes=len(content))])


async def opened(
    box: bytes, size: int, *bound: str, key: bytes = KEY, offset: int = 0, length: int = -1, chunk: int = 70_000
) -> bytes:
    of = cut(size, offset=offset, length=size - offset if length < 0 else length)
    part = box[of.start : of.start + of.length]
    return b"".join([plain async for plain in unseal(chunks(part, chunk), key, *bound, of=of)])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk", [1000, SEGMENT_BYTES, SEALED_BYTES, 10**6])
async def test_what_is_sealed_comes_back_however_it_is_cut(size: int, chunk: int) -> None:
    content = os.urandom(size)
    box = await sealed(content, "v", chunk=chunk)
    assert len(box) == sealed_size(size)
    assert await opened(box, size, "v", chunk=chunk) == content


@pytest.mark.control("F4", "each object is sealed with AES-256-GCM under a data key of its own")
async def test_a_segment_is_plain_aes_256_gcm_that_any_library_opens() -> None:
    content = os.urandom(SEGMENT_BYTES + 10)
    box = await sealed(content, "file", "v1")
    bound = b"\0\0\0\4file\0\0\0\2v1"
    first = AESGCM(KEY).decrypt(bytes(12), box[:SEALED_BYTES], bound)
    last = AESGCM(KEY).decrypt(bytes(10) + b"\1\1", box[SEALED_BYTES:], bound)
    assert (len(KEY), first + last) == (32, content)
    for short in (KEY[:16], KEY[:24], KEY + b"x"):
        with pytest.raises(ValueError, match="a key has 32 bytes"):
            await sealed(content, key=short)


@pytest.mark.control("F4", "a range fetches and opens its own segments alone")
@pytest.mark.parametrize("size", SIZES[1:])
async def test_a_range_is_its_bytes_and_costs_its_segments(size: int) -> None:
    content = os.urandom(size)
    box = await sealed(content, "v")
    edges = {0, 1, size // 2, size - 1, size, *(at for at in range(0, size + 1, SEGMENT_BYTES))}
    for begin in edges:
        for end in (one for one in edges if one > begin):
            assert await opened(box, size, "v", offset=begin, length=end - begin) == content[begin:end]
            of = cut(size, offset=begin, length=end - begin)
            touched = range(begin // SEGMENT_BYTES, (end - 1) // SEGMENT_BYTES + 1)
            assert (of.segment, of.start) == (touched[0], touched[0] * SEALED_BYTES)
            assert of.length == min(len(touched) * SEALED_BYTES, len(box) - of.start)
    for offset, length in ((0, size + 1), (size, 1), (-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="does not lie in"):
            cut(size, offset=offset, length=length)


def swapped(box: bytes) -> bytes:
    return box[SEALED_BYTES : 2 * SEALED_BYTES] + box[:SEALED_BYTES] + box[2 * SEALED_BYTES :]


@pytest.mark.control("F4", "a changed, moved, cut or foreign segment is refused")
@pytest.mark.parametrize(
    "spoil",
    [
        swapped,
        lambda box: box[SEALED_BYTES:] + box[:SEALED_BYTES],
        lambda box: box[: 2 * SEALED_BYTES],
        lambda box: box[:-1],
        lambda box: box[:-17],
        lambda box: box[:SEALED_BYTES],
        lambda box: box[:SEALED_BYTES] + box,
        lambda box: b"",
        *(lambda box, at=at: box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :] for at in (0, 70_000, -1 - 16, -1)),
    ],
)  # fmt: skip
async def test_what_is_not_what_was_sealed_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    size = 2 * SEGMENT_BYTES + 100
    content = os.urandom(size)
    box = await sealed(content, "v")
    assert await opened(box, size, "v") == content
    with pytest.raises(Damaged):
        await opened(spoil(box), size, "v")


@pytest.mark.control("F4", "a changed, moved, cut or foreign segment is refused")
async def test_an_end_that_was_cut_at_a_segment_is_refused_even_where_its_size_is_believed() -> None:
    """Who cuts the object may also have changed the size in its row: the last segment itself says that it is last."""
    box = await sealed(os.urandom(3 * SEGMENT_BYTES), "v")
    assert len(await opened(box, 3 * SEGMENT_BYTES, "v")) == 3 * SEGMENT_BYTES
    with pytest.raises(Damaged):
        await opened(box[: 2 * SEALED_BYTES], 2 * SEGMENT_BYTES, "v")


@pytest.mark.control("F4", "a changed, moved, cut or foreign segment is refused")
async def test_another_key_and_another_versions_bytes_do_not_open() -> None:
    box = await sealed(b"content", "file", "v1")
    assert await opened(box, 7, "file", "v1") == b"content"
    for bound, key in ((("file", "v2"), KEY), (("filev", "1"), KEY), (("file", "v1"), new_key())):
        with pytest.raises(Damaged):
            await opened(box, 7, *bound, key=key)


async def into(got: bytearray, parts: AsyncIterator[bytes]) -> None:
    async for part in parts:
        got += part


@pytest.mark.parametrize("size", SIZES)
async def test_a_stream_of_another_length_never_gets_its_last_segment(size: int) -> None:
    for wrong in {size + 1, max(0, size - 1), size + SEGMENT_BYTES} - {size}:
        got = bytearray()
        with pytest.raises(ValueError, match="not as long"):
            await into(got, seal(chunks(os.urandom(size), 9_999), KEY, size_bytes=wrong))
        assert len(got) < sealed_size(wrong)


async def test_the_last_segment_comes_only_after_the_body_has_ended_well() -> None:
    async def refused_at_its_end() -> AsyncIterator[bytes]:
        yield bytes(2 * SEGMENT_BYTES)
        raise PermissionError

    got = bytearray()
    with pytest.raises(PermissionError):
        await into(got, seal(refused_at_its_end(), KEY, size_bytes=2 * SEGMENT_BYTES))
    assert len(got) == SEALED_BYTES


@pytest.mark.control("F4", "data keys are wrapped by the user's key, and open in no other place")
def test_a_wrapped_key_opens_where_it_belongs_and_nowhere_else() -> None:
    key, under = new_key(), new_key()
    wrapped = wrap(key, under, "ada", "v1")
    assert len(wrapped) == crypto.WRAPPED_BYTES
    assert wrap(key, under, "ada", "v1") != wrapped
    assert key not in wrapped
    assert unwrap(wrapped, under, "ada", "v1") == key
    elsewhere = (("zoe", "v1"), ("ada", "v2"), ("adav1",), ("ad", "av1"), ())
    for bound in elsewhere:
        with pytest.raises(Damaged):
            unwrap(wrapped, under, *bound)
    for other in (wrapped[:-1], b"", bytes([wrapped[0] ^ 1]) + wrapped[1:], wrapped[:-1] + bytes([wrapped[-1] ^ 1])):
        with pytest.raises(Damaged):
            unwrap(other, under, "ada", "v1")
    with pytest.raises(Damaged):
        unwrap(wrapped, new_key(), "ada", "v1")


def test_a_users_key_is_wrapped_by_the_current_root_and_opened_by_any_in_the_list() -> None:
    one, two, three = (Key(kid, new_key()) for kid in ("r1", "r2", "r3"))
    user = new_key()
    stored = envelope.seal_user_key(user, Keys(one, two), user_id="ada", key_id="k")
    assert user not in stored
    for roots in (Keys(one, two), Keys(two, three, one)):
        assert envelope.open_user_key(stored, roots, user_id="ada", key_id="k") == user
    assert envelope.of_current_root(stored, Keys(one, two))
    assert not envelope.of_current_root(stored, Keys(two, three, one))
    with pytest.raises(envelope.UnknownRoot):
        envelope.open_user_key(stored, Keys(three), user_id="ada", key_id="k")
    with pytest.raises(Damaged):
        envelope.open_user_key(stored, Keys(Key("r1", new_key())), user_id="ada", key_id="k")
    for user_id, key_id in (("zoe", "k"), ("ada", "k2")):
        with pytest.raises(Damaged):
            envelope.open_user_key(stored, Keys(one), user_id=user_id, key_id=key_id)
    for text in (b"", b"{}", b"[]", b'{"root": "r1", "wrapped": "!"}', stored.replace(b'"r1"', b'"r2"')):
        with pytest.raises(Damaged):
            envelope.open_user_key(text, Keys(one, two), user_id="ada", key_id="k")


@pytest.mark.control("F4", "a missing or weak root key is refused")
@pytest.mark.parametrize("bad", [bytes(32), b"changeme" * 4, os.urandom(31), os.urandom(33), b"ab" * 16])
def test_a_root_key_that_could_be_guessed_is_refused(bad: bytes) -> None:
    good = Key("a", new_key())
    assert envelope.parse_roots(write_keys(Keys(good))) == Keys(good)
    for keys in (Keys(Key("b", bad)), Keys(good, Key("b", bad)), Keys(good, None, Key("b", bad))):
        with pytest.raises(ValueError, match=r"root key|at least 32"):
            envelope.parse_roots(write_keys(keys))
