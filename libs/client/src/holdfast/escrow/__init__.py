"""Escrow: what a restore needs and no backup holds, in one file that only operators' own keys open (B7).

What is in it, by the names that the files have in an installation:

    secrets/auth/root_keys           roots of user tokens; the keys of every other service follow from them
    secrets/auth/cookie_keys         without them everybody is signed out
    secrets/stack/repository_cipher  without it every backup is lost
    secrets/backup/heartbeat_key     without it no restored heartbeat can be told from a forged one
    secrets/backup/evidence_key      without it the chain of evidence ends
    secrets/files/key_encryption_keys  without it no user's key opens, and so no file
    repository/pgbackrest.conf       where the repository is, an identity that may only read it, and the pass
    repository/ca.pem                the authority of its store, when it has one of its own
    manifest.json, SHA256SUMS        what there is, who can open it, when it was made, and a digest of everything

The list is closed: nothing is swept up from a directory. So these are not in it, and must never be:
- keys of single persons or files. A person's keys live in a bucket of their own alone, wrapped by the roots of files:
  who is erased loses them, and an escrow, which no one can call back, would bring them to life again. So a restore
  needs that bucket, as it needs the bucket of the file bytes: neither is in the backups.
- what is drawn again without loss: passwords of database roles, CSRF and page keys, certificates, identities of object
  stores that may write.

The file is text: words that say what it is and how to open it, the envelope, and the recipients' certificates. The
envelope is CMS EnvelopedData (RFC 5652) as PEM: AES-256, its key encrypted to the RSA key of each recipient. It is made
by the library `cryptography`, and any openssl of the last fifteen years opens it, on a machine without Holdfast:

    openssl cms -decrypt -inform PEM -in FILE -inkey KEY.pem | tar -x && sha256sum -c SHA256SUMS

Anybody could make an escrow to the same public certificates: that a file is ours is told by its own SHA-256, which
`export` prints and keeps beside the state, and by comparing its contents with an installation that still stands.

- `gather`, `Installation`: what is to be escrowed, from an installation's files
- `seal`, `unseal`: to a file and back; `NotEscrow`, `WrongKey` say what is wrong
- `record`: what an installation remembers of its escrow, without a secret; `place`: an opened escrow as a directory
"""

from holdfast.escrow.archive import Manifest, NotEscrow, Recipient
from holdfast.escrow.contents import Installation, Missing, gather, repository_of
from holdfast.escrow.envelope import Sealed, Unfit, WrongKey, recipient, seal, unseal

__all__ = [
    "Installation",
    "Manifest",
    "Missing",
    "NotEscrow",
    "Recipient",
    "Sealed",
    "Unfit",
    "WrongKey",
    "gather",
    "recipient",
    "repository_of",
    "seal",
    "unseal",
]
