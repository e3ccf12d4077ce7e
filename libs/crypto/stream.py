"""A stream of bytes as segments of 64 KiB, each sealed for itself.

Segment i of a stream is AES-256-GCM(key, nonce = i as 11 bytes ‖ 1 for the last segment, else 0), so that a segment
moved, left out, or taken from another stream does not open, nor does an end that was cut. An empty stream is one empty
segment. There is no header: who opens knows the plaintext's size, and with it every segment's place.
"""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag

from libs.crypto.wrap import TAG_BYTES, Damaged, bond, cipher

SEGMENT_BYTES = 64 * 1024
_SEALED_BYTES = SEGMENT_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True)
class Cut:
    """The sealed bytes that hold a span: from start on, length of them; the first belongs to segment *segment*.

    skip: plaintext bytes before the span in that segment. wanted: of the span. count: segments of the whole stream.
    """

    start: int
    length: int
    segment: int
    skip: int
    wanted: int
    count: int


def segments(size_bytes: int) -> int:
    """How many segments a plaintext of this size has."""
    return max(1, -(-size_bytes // SEGMENT_BYTES))


def sealed_size(size_bytes: int) -> int:
    """How many bytes a plaintext of this size has when sealed."""
    return size_bytes + TAG_BYTES * segments(size_bytes)


def cut(size_bytes: int, *, offset: int, length: int) -> Cut:
    """Where *length* bytes from *offset* on lie in a sealed plaintext of *size_bytes*. Raises ValueError outside it."""
    if offset < 0 or length < 0 or offset + length > size_bytes:
        raise ValueError("the span does not lie in the stream")
    first = min(offset // SEGMENT_BYTES, segments(size_bytes) - 1)
    behind = max(first + 1, segments(offset + length)) if length else first + 1
    start = first * _SEALED_BYTES
    end = min(behind * _SEALED_BYTES, sealed_size(size_bytes))
    return Cut(start, end - start, first, offset - first * SEGMENT_BYTES, length, segments(size_bytes))


async def seal(body: AsyncIterable[bytes], key: bytes, *bound: str, size_bytes: int) -> AsyncIterator[bytes]:
    """*body*, which has to be *size_bytes* long, sealed under *key*, which must seal nothing else ever.

    Raises what *body* raises; the last segment comes only after *body* has ended. Raises ValueError for another length.
    """
    aead, associated = cipher(key), bond(*bound)
    last, number, pending = segments(size_bytes) - 1, 0, bytearray()
    async for chunk in body:
        pending += chunk
        ready = []
        while len(pending) >= SEGMENT_BYTES and number < last:
            ready.append(aead.encrypt(_nonce(number, last), pending[:SEGMENT_BYTES], associated))
            del pending[:SEGMENT_BYTES]
            number += 1
        if ready:
            yield b"".join(ready)
    if number != last or len(pending) != size_bytes - last * SEGMENT_BYTES:
        raise ValueError("the stream is not as long as was said")
    yield aead.encrypt(_nonce(number, last), pending, associated)


async def unseal(sealed: AsyncIterator[bytes], key: bytes, *bound: str, of: Cut) -> AsyncIterator[bytes]:
    """The span's bytes, from the sealed bytes that *of* names. Raises Damaged before a byte of a bad segment."""
    aead, associated = cipher(key), bond(*bound)
    number, skip, left = of.segment, of.skip, of.wanted
    async for ready in _whole(sealed, of.length):
        opened = []
        for at in range(0, len(ready), _SEALED_BYTES):
            try:
                segment = aead.decrypt(_nonce(number, of.count - 1), ready[at : at + _SEALED_BYTES], associated)
            except InvalidTag:
                raise Damaged from None
            opened.append(segment[skip : skip + left])
            left, skip, number = left - len(opened[-1]), 0, number + 1
        if content := b"".join(opened):
            yield content


async def _whole(sealed: AsyncIterator[bytes], length: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of whole segments, the last may be shorter. Raises Damaged for another length."""
    pending, left = bytearray(), length
    async for chunk in sealed:
        pending += chunk
        left -= len(chunk)
        ready = len(pending) if left <= 0 else len(pending) // _SEALED_BYTES * _SEALED_BYTES
        if ready:
            yield bytes(pending[:ready])
            del pending[:ready]
    if left:
        raise Damaged


def _nonce(number: int, last: int) -> bytes:
    return number.to_bytes(11) + bytes([number == last])
