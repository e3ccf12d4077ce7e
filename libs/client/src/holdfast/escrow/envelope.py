"""The file around the archive: words, CMS EnvelopedData to each recipient's RSA key, and the recipients' certificates.

The certificates stand last: openssl takes the first PEM block that it could read as CMS, and tries a certificate too.
Every byte is checked on opening: what was escrowed by the digests inside; the words, made again and compared, hold the
digest of the envelope, for a byte changed in one recipient's part would only be noticed by that one.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7

from holdfast.escrow.archive import Manifest, NotEscrow, Recipient, pack, unpack

LEAST_BITS = 3072
_ENVELOPE = re.compile(rb"-----BEGIN PKCS7-----\n.*?-----END PKCS7-----\n", re.DOTALL)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", re.DOTALL)
_MAKE_ONE = "openssl req -x509 -newkey rsa:4096 -days 3650 -subj /CN=NAME -keyout NAME.key -out NAME.pem"
_WORDS = """Holdfast escrow, version 1
made      {made_at}
of        host {stack}, stanza {stanza}
contents  sha256 {contents}
envelope  sha256 {envelope}
opened by any one of
{recipients}
Without Holdfast, into an empty directory that only you can read:
  openssl cms -decrypt -inform PEM -in THIS_FILE -inkey YOUR_KEY.pem | tar -x && sha256sum -c SHA256SUMS

"""


class Unfit(Exception):
    """A certificate or key that an escrow cannot be made for or opened with; the message is a sentence."""


class WrongKey(Exception):
    """The escrow is whole on the outside, and this key is none of its recipients'; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """One escrow. sha256: of the whole file, in hex: note it apart from the file."""

    manifest: Manifest
    text: bytes

    @property
    def sha256(self) -> str:
        """What tells this file from one that somebody else made."""
        return hashlib.sha256(self.text).hexdigest()


def recipient(pem: bytes, *, now: datetime) -> x509.Certificate:
    """An operator's certificate. Raises Unfit, with what to do."""
    if b"PRIVATE KEY" in pem:
        raise Unfit("It holds a private key: that stays with its operator. Give the certificate alone.")
    try:
        found = x509.load_pem_x509_certificate(pem)
        key = found.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Unfit(f"It holds no certificate as PEM. An operator makes one by: {_MAKE_ONE}") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < LEAST_BITS:
        raise Unfit(f"Its key is no RSA key of {LEAST_BITS} bits or more. Make one by: {_MAKE_ONE}")
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise Unfit(f"It is valid until {found.not_valid_after_utc:%Y-%m-%d}: ask its operator for the present one.")
    return found


def seal(
    files: Mapping[str, bytes],
    certificates: Sequence[x509.Certificate],
    *,
    made_at: datetime,
    stack: str,
    stanza: str,
) -> Sealed:
    """The escrow of *files* for everybody in *certificates*. Raises Unfit for nobody, or for one twice."""
    if not certificates:
        raise Unfit("An escrow that nobody can open is none: name at least one recipient.")
    names = {(one.issuer, one.serial_number) for one in certificates}
    if len(names) != len(certificates) or len({_public(one) for one in certificates}) != len(certificates):
        raise Unfit("Two of the certificates are of one key, or carry the same issuer and serial number.")
    manifest, archive = pack(
        files, made_at=made_at, stack=stack, stanza=stanza, recipients=[_shown(one) for one in certificates]
    )
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(archive).set_content_encryption_algorithm(algorithms.AES256)
    for one in certificates:
        builder = builder.add_recipient(one)
    envelope = builder.encrypt(Encoding.PEM, [pkcs7.PKCS7Options.Binary])
    return Sealed(manifest, _render(manifest, envelope, certificates))


def private_key(pem: bytes, passphrase: bytes | None) -> RSAPrivateKey:
    """An operator's key. Raises Unfit; TypeError when it wants a passphrase and there is none."""
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        raise Unfit("It is no private key as PEM, or the passphrase is not its own.") from None
    if not isinstance(key, RSAPrivateKey):
        raise Unfit("It is no RSA key, and escrows are made for those.")
    return key


def unseal(text: bytes, key: RSAPrivateKey) -> tuple[Manifest, dict[str, bytes]]:
    """What seal wrote, every byte of it checked. Raises NotEscrow and WrongKey."""
    envelope = _ENVELOPE.search(text)
    if envelope is None or not text.startswith(b"Holdfast escrow"):
        raise NotEscrow("it is no escrow")
    try:
        certificates = [x509.load_pem_x509_certificate(one) for one in _CERTIFICATE.findall(text)]
        own = [one for one in certificates if one.public_key() == key.public_key()]
    except (ValueError, UnsupportedAlgorithm):
        raise NotEscrow("the certificates in it are damaged") from None
    if not own:
        names = ", ".join(f"{_shown(one).subject} ({_shown(one).fingerprint[:16]}…)" for one in certificates)
        raise WrongKey(f"This key does not open it. It was made for {names or 'nobody'}.")
    try:
        archive = pkcs7.pkcs7_decrypt_pem(envelope[0], own[0], key, [])
    except (ValueError, UnsupportedAlgorithm):
        raise NotEscrow("the envelope is damaged") from None
    manifest, files = unpack(archive)
    if manifest.recipients != tuple(_shown(one) for one in certificates):
        raise NotEscrow("the recipients it names are not those it was made for")
    if _render(manifest, envelope[0], certificates) != text:
        raise NotEscrow("the envelope or the words around it are not as they were made")
    return manifest, files


def _render(manifest: Manifest, envelope: bytes, certificates: Sequence[x509.Certificate]) -> bytes:
    people = "".join(f"  {one.subject}  sha256 {one.fingerprint}\n" for one in manifest.recipients)
    words = _WORDS.format(
        made_at=manifest.made_at, stack=manifest.stack, stanza=manifest.stanza, contents=manifest.contents,
        recipients=people, envelope=hashlib.sha256(envelope).hexdigest(),
    )  # fmt: skip
    return b"".join([words.encode(), envelope, *(one.public_bytes(Encoding.PEM) for one in certificates)])


def _shown(one: x509.Certificate) -> Recipient:
    return Recipient(one.fingerprint(hashes.SHA256()).hex(), one.subject.rfc4514_string().replace("\n", " "))


def _public(one: x509.Certificate) -> tuple[int, int]:
    key = one.public_key()
    return (key.public_numbers().n, key.public_numbers().e) if isinstance(key, RSAPublicKey) else (0, 0)
