"""Public keys of evidence, as PEM."""

import hashlib
import re
from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

Keys = Mapping[str, Ed25519PublicKey]
"""Public keys by their key_id."""

_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of SHA-256 of the raw key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def public_pem(key: Ed25519PublicKey) -> bytes:
    """SubjectPublicKeyInfo as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def parse_keys(text: bytes) -> Keys:
    """Every public key in PEM *text*: several after a change of keys. Raises ValueError for none, or another kind."""
    found: dict[str, Ed25519PublicKey] = {}
    for block in _BLOCK.findall(text):
        try:
            key = load_pem_public_key(block)
        except UnsupportedAlgorithm:
            raise ValueError("a public key is of an unknown kind") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("a public key is not an Ed25519 key")
        found[key_id(key)] = key
    if not found:
        raise ValueError("there is no PEM public key in it")
    return found
