"""The form of evidence, for the service that writes it. It belongs to those who check it: see holdfast.evidence."""

from holdfast.evidence import (
    NOTHING,
    RECORD,
    TRAILER,
    Chain,
    NotEvidence,
    Record,
    canonical,
    commitment,
    digest,
    key_id,
    parse_keys,
    public_pem,
)

__all__ = [
    "NOTHING",
    "RECORD",
    "TRAILER",
    "Chain",
    "NotEvidence",
    "Record",
    "canonical",
    "commitment",
    "digest",
    "key_id",
    "parse_keys",
    "public_pem",
]
