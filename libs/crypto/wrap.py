"""Keys, and keys under other keys."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES


class Damaged(Exception):
    """What was sealed is not what is here, or another key or another bond was meant. Nobody can say which."""


def new_key() -> bytes:
    """A fresh key of 32 bytes."""
    return os.urandom(KEY_BYTES)


def wrap(key: bytes, under: bytes, *bound: str) -> bytes:
    """*key* under the key *under* and bound to the texts *bound*: nonce, ciphertext and tag, 60 bytes.

    Raises ValueError when either key has not 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher(under).encrypt(nonce, key, bond(*bound))


def unwrap(wrapped: bytes, under: bytes, *bound: str) -> bytes:
    """The key that `wrap` was given. Raises Damaged, and ValueError when *under* has not 32 bytes."""
    if len(wrapped) != WRAPPED_BYTES:
        raise Damaged
    try:
        return cipher(under).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bond(*bound))
    except InvalidTag:
        raise Damaged from None


def cipher(key: bytes) -> AESGCM:
    """AES-256-GCM with *key*: the library itself would also take a shorter key, and be a weaker cipher."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    return AESGCM(key)


def bond(*bound: str) -> bytes:
    """The texts as associated data, each with its length before it, so that no two lists are the same bytes."""
    parts = [text.encode() for text in bound]
    return b"".join(len(part).to_bytes(4) + part for part in parts)
