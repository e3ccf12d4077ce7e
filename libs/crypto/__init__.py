"""Envelope encryption: bytes under a data key of their own, keys under other keys; AES-256-GCM and nothing else.

`stream`  many bytes, as segments that can be opened each for itself: a range costs its segments, not the file.
`wrap`    one key under another.

What is *bound* is authenticated and stored nowhere: whoever opens has to name the same. A key of a stream is drawn for
it alone, so counted nonces never meet again; nonces of wraps are drawn, for 2³² of them under one key.
GCM does not commit to its key. It need not here: nobody but the servers draws keys.

Sources: NIST SP 800-38D; Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance" (STREAM), section 7.
"""

from libs.crypto.stream import SEGMENT_BYTES, Cut, cut, seal, sealed_size, unseal
from libs.crypto.wrap import KEY_BYTES, WRAPPED_BYTES, Damaged, new_key, unwrap, wrap

__all__ = [
    "KEY_BYTES",
    "SEGMENT_BYTES",
    "WRAPPED_BYTES",
    "Cut",
    "Damaged",
    "cut",
    "new_key",
    "seal",
    "sealed_size",
    "unseal",
    "unwrap",
    "wrap",
]
