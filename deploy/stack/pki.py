"""The stack's own certificate authority, and the certificates it signs for the edge and the object store.

The authority's key stays in the state directory, mode 0600. A certificate is made anew 30 days before its end; the
edge watches its directory and takes the new one without a restart.
"""

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397  # what browsers accept at most
RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key as files in PEM."""

    certificate: Path
    key: Path


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace *path* whole, so that nobody ever reads half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    fresh.replace(path)


def authority(directory: Path, now: datetime) -> Pair:
    """The authority in *directory*; made when there is none."""
    pair = Pair(directory / "ca.pem", directory / "ca.key")
    if pair.certificate.exists() and pair.key.exists():
        return pair
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Holdfast local authority")])
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_DAYS).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        builder.add_extension(usage, critical=True).add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    )
    write(pair.key, _key_bytes(key))
    write(pair.certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return pair


def leaf(directory: Path, signer: Pair, now: datetime) -> Pair:
    """A server certificate for this machine's loopback names in *directory*; made when there is none or its end is
    near.
    """
    pair = Pair(directory / "cert.pem", directory / "key.pem")
    if pair.key.exists() and pair.certificate.exists() and days_left(pair.certificate, now) > RENEW_DAYS:
        return pair
    signer_key = serialization.load_pem_private_key(signer.key.read_bytes(), None)
    if not isinstance(signer_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{signer.key} holds no key of an elliptic curve")
    signer_certificate = x509.load_pem_x509_certificate(signer.certificate.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", "::1"))]
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key())
    made = (
        _builder(name, signer_certificate.subject, key.public_key(), now, LEAF_DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issued_by, critical=False)
        .sign(signer_key, hashes.SHA256())
    )
    write(pair.key, _key_bytes(key))
    write(pair.certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return pair


def days_left(certificate: Path, now: datetime) -> int:
    """Whole days until the certificate ends; negative afterwards."""
    return (x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc - now).days


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    begin = now.astimezone(UTC) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
