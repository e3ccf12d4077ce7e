"""Evidence of backups and drills: records that anyone can check offline with a public key alone.

An export is lines of JSON, UTF-8, each ended by one newline: records in order, then one trailer.

    {"body":{"at":…,"chain":…,"commitment":…,"facts":{…},"key":…,"kind":…,"previous":…,"sequence":…,"subject":…,
     "version":1},"internal":{"facts":{…},"salt":…},"signature":…}
    {"signature":…,"trailer":{"count":…,"exported_at":…,"head":…,"internal":true,"key":…,"version":1}}

Canonical bytes. Every line is the canonical form of its value: RFC 8785 narrowed to objects, arrays, strings, booleans,
null and whole numbers within ±(2^53 - 1); names of members are ASCII, sorted; no space, no fraction, no exponent.
What is signed is one of two prefixes (`RECORD`, `TRAILER`) and the canonical form of `body` or `trailer`; the signature
is Ed25519 (RFC 8032) in lower-case hex. `key` is the first 16 hex digits of SHA-256 of the raw public key.

The chain. `chain` is random and the same in all records of a chain; one service on one disk writes one. `sequence`
grows by one from 1; `previous` is the SHA-256 of the canonical form of the body before, 64 zeros for the first; `head`
of a trailer is that of the last one. Nothing can be changed, left out, repeated, inserted or put in another place
without the key. A whole older export is still true: look at `exported_at`.

Internals. `internal` is bound to the body by `commitment` = SHA-256(salt in hex, newline, canonical facts). An export
for customers leaves it out, and its chain and signatures hold as before; the salt keeps short facts from being guessed.

- `Chain`: follows records one by one
- `verify`: a whole export to its `Summary`; `NotEvidence` says which line is wrong, and how
- `canonical`, `digest`, `commitment`: the bytes
- `lines_of`: the lines of a file, none longer than memory allows
- `parse_keys`, `key_id`: public keys as PEM
"""

from holdfast.evidence.chain import Chain, NotEvidence, Record
from holdfast.evidence.export import Summary, lines_of, verify
from holdfast.evidence.form import NOTHING, RECORD, TRAILER, canonical, commitment, digest
from holdfast.evidence.keys import key_id, parse_keys, public_pem

__all__ = [
    "NOTHING",
    "RECORD",
    "TRAILER",
    "Chain",
    "NotEvidence",
    "Record",
    "Summary",
    "canonical",
    "commitment",
    "digest",
    "key_id",
    "lines_of",
    "parse_keys",
    "public_pem",
    "verify",
]
