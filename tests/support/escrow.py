"""Operators' keys, and a state directory with everything that is escrowed, for the tests of escrows."""

import os
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.pgbackrest import conf
from deploy.stack.credentials import Vault


@cache
def _key(name: str, bits: int) -> rsa.RSAPrivateKey:
    """One for each name in a run: drawing one takes a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def operator(folder: Path, name: str, *, bits: int = 3072, days: int = 1) -> tuple[Path, Path]:
    """The files of an operator's key (no passphrase) and certificate, valid until *days* from now."""
    key, now = _key(name, bits), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    private, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    return private, certificate


def installed(state: Path, *, repository: Path | None = None, cipher_pass: str = "") -> Path:
    """A state directory as `make up` lays it out, as far as escrows read it; *state* itself."""
    (state / "conf").mkdir(parents=True)
    (state / "backup").mkdir()
    vault = Vault(state / "secrets")
    vault.ensure()
    if cipher_pass:
        conf.write(state / "secrets" / "stack" / "repository_cipher", cipher_pass)
    authority = state / "ca.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\nof a store\n-----END CERTIFICATE-----\n")
    where: conf.S3 | conf.Directory = conf.S3(
        bucket="backups", endpoint="store.example", port=8333, region="r", access_key="A" * 20,
        secret_key="reads-the-repository-and-nothing-else", ca_file=authority,
    ) if repository is None else conf.Directory(path=repository)  # fmt: skip
    settings = conf.Settings(
        stanza="holdfast",
        repository=where,
        server=conf.Server(data_dir=state / "data", socket_dir=state, port=5432, user="u", database="d"),
        work_dir=state / "work",
        cipher_pass=vault.text("stack/repository_cipher"),
    )
    conf.write(state / "conf" / "pgbackrest-read.conf", conf.render(settings))
    return state


def as_owner() -> bool:
    """Whether file modes bind this user: they do not bind root."""
    return os.geteuid() != 0
