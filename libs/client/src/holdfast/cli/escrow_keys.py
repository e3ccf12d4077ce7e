"""Operators' keys and certificates for `holdfast escrow`."""

import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

PASSPHRASE = "HOLDFAST_ESCROW_PASSPHRASE"
_DAYS = 3650


def certificate(path: Path, now: datetime) -> "Certificate":
    """The certificate in *path*. Raises Unfit naming the file."""
    from holdfast.escrow import Unfit, recipient

    try:
        return recipient(path.read_bytes(), now=now)
    except Unfit as fault:
        raise Unfit(f"{path}: {fault}") from None


def private_key(path: Path) -> "RSAPrivateKey":
    """The key in *path*; its passphrase from the environment or the terminal. Raises Unfit naming the file."""
    from holdfast.escrow import Unfit, envelope

    pem = path.read_bytes()
    given = os.environ.get(PASSPHRASE)
    try:
        try:
            return envelope.private_key(pem, None)
        except TypeError:
            return envelope.private_key(pem, (given if given is not None else _asked(path)).encode())
    except Unfit as fault:
        raise Unfit(f"{path}: {fault}") from None


def key_pair(directory: Path, name: str) -> tuple[Path, Path]:
    """A key under a passphrase and its certificate in *directory*. Raises FileExistsError rather than replace one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    from holdfast.escrow.record import write

    if not re.fullmatch(r"[\w.-]{1,40}", name):
        raise click.UsageError("--name: letters, digits, dots, dashes, at most 40.")
    paths = directory / f"{name}.key", directory / f"{name}.pem"
    for path in paths:
        if path.exists():
            raise FileExistsError(17, "exists already", str(path))
    given = os.environ.get(PASSPHRASE) or _chosen()
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=_DAYS))
    form = serialization.BestAvailableEncryption(given.encode())
    pem = serialization.Encoding.PEM
    write(paths[0], key.private_bytes(pem, serialization.PrivateFormat.PKCS8, form), mode=0o600)
    write(paths[1], builder.sign(key, hashes.SHA256()).public_bytes(pem), mode=0o644)
    return paths


def _chosen() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(
            "The new key wants a passphrase, and here is no terminal to ask for one. Run this in a terminal, or put the"
            f" passphrase into {PASSPHRASE}."
        )
    return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True))


def _asked(path: Path) -> str:
    if not sys.stdin.isatty():
        from holdfast.escrow import Unfit

        raise Unfit(f"It wants a passphrase: set {PASSPHRASE}.")
    return str(click.prompt(f"Passphrase of {path}", hide_input=True, err=True))
