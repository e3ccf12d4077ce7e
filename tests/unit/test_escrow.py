"""The escrow file: who opens it, what is in it, and what is told when it is not whole."""

import subprocess
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from holdfast import escrow
from holdfast.escrow import contents, envelope
from tests.support.escrow import installed, operator

NOW = datetime.now(UTC)


def private(path: Path) -> RSAPrivateKey:
    found = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(found, RSAPrivateKey)
    return found


def certificate(path: Path) -> x509.Certificate:
    return escrow.recipient(path.read_bytes(), now=NOW)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return installed(tmp_path / "home" / "state")


@pytest.fixture
def made(state: Path, tmp_path: Path) -> escrow.Sealed:
    """The escrow of `state` for ada and grace."""
    people = [certificate(operator(tmp_path, name)[1]) for name in ("ada", "grace")]
    return escrow.seal(escrow.gather(escrow.Installation(state)), people, made_at=NOW, stack="h", stanza="holdfast")


@pytest.mark.control("B7", "root keys and cipher pass are in one file that any one recipient opens, and nobody else")
@pytest.mark.parametrize("name", ["ada", "grace"])
def test_each_recipient_alone_opens_it_and_finds_what_is_installed(
    made: escrow.Sealed, state: Path, tmp_path: Path, name: str
) -> None:
    manifest, found = escrow.unseal(made.text, private(tmp_path / f"{name}.key"))
    assert found == escrow.gather(escrow.Installation(state))
    assert [one.subject for one in manifest.recipients] == ["CN=ada", "CN=grace"]
    for secret in contents.SECRETS:
        assert found[f"secrets/{secret}"] == (state / "secrets" / secret).read_bytes()


@pytest.mark.control("B7", "root keys and cipher pass are in one file that any one recipient opens, and nobody else")
def test_somebody_else_does_not_open_it_and_is_told_who_can(made: escrow.Sealed, tmp_path: Path) -> None:
    with pytest.raises(escrow.WrongKey, match=r"made for CN=ada \(.*CN=grace"):
        escrow.unseal(made.text, private(operator(tmp_path, "mallory")[0]))


@pytest.mark.control("B7", "root keys and cipher pass are in one file that any one recipient opens, and nobody else")
def test_no_secret_can_be_read_in_the_file(made: escrow.Sealed, state: Path) -> None:
    assert b"made      " in made.text
    for content in escrow.gather(escrow.Installation(state)).values():
        for line in content.splitlines():
            assert len(line) < 20 or line.startswith(b"-----") or line not in made.text


@pytest.mark.control("B7", "openssl opens it on a machine without Holdfast")
def test_openssl_and_tar_open_it_by_the_line_that_the_file_itself_gives(made: escrow.Sealed, tmp_path: Path) -> None:
    (tmp_path / "escrow.txt").write_bytes(made.text)
    line = next(line for line in made.text.decode().splitlines() if line.startswith("  openssl cms"))
    line = line.replace("THIS_FILE", "../escrow.txt").replace("YOUR_KEY.pem", "../grace.key")
    empty = tmp_path / "by-hand"
    empty.mkdir()
    done = subprocess.run(["sh", "-c", line], cwd=empty, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name}: OK" for name in ("manifest.json", *made.manifest.files)]
    assert {str(path.relative_to(empty)) for path in empty.rglob("*") if path.is_file()} == {
        "SHA256SUMS", "manifest.json", "repository/pgbackrest.conf", "repository/ca.pem", "secrets/auth/root_keys",
        "secrets/auth/cookie_keys", "secrets/stack/repository_cipher", "secrets/backup/heartbeat_key",
        "secrets/backup/evidence_key", "secrets/files/key_encryption_keys",
    }  # fmt: skip


@pytest.mark.control("B7", "a changed byte, a cut end and a foreign file are refused")
def test_a_changed_byte_anywhere_is_refused(made: escrow.Sealed, tmp_path: Path) -> None:
    key = private(tmp_path / "ada.key")
    escrow.unseal(made.text, key)
    step = 97
    for at in range(0, len(made.text), step):
        changed = bytearray(made.text)
        changed[at] ^= 1
        with pytest.raises((escrow.NotEscrow, escrow.WrongKey)):
            escrow.unseal(bytes(changed), key)


@pytest.mark.control("B7", "a changed byte, a cut end and a foreign file are refused")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-1],
        lambda text: text + b"\n",
        lambda text: b"\n" + text,
        lambda text: text.replace(b"opened by any one of", b"opened by all of them "),
        lambda text: text[: text.index(b"-----BEGIN CERTIFICATE")],
        lambda text: b"Holdfast escrow\n-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n",
    ],
)
def test_a_file_that_is_not_whole_is_refused_in_a_sentence(
    made: escrow.Sealed, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    with pytest.raises((escrow.NotEscrow, escrow.WrongKey)):
        escrow.unseal(spoil(made.text), private(tmp_path / "ada.key"))


@pytest.mark.control("B7", "erased keys stay erased: nothing but the named files is escrowed")
def test_a_key_that_lies_among_the_secrets_and_is_not_on_the_list_is_not_in_the_escrow(state: Path) -> None:
    before = escrow.gather(escrow.Installation(state))
    for name in ("files/user_keys", "auth/somebodys_key", "stack/s3_identities.json", "auth/csrf_key"):
        (state / "secrets" / name).write_bytes(b"key-of-a-person-who-may-be-erased-tomorrow")
    assert escrow.gather(escrow.Installation(state)) == before
    assert not any(b"may-be-erased" in content for content in before.values())
    (state / "secrets" / "auth" / "root_keys").write_bytes(b"another")
    assert escrow.gather(escrow.Installation(state)) != before


def test_of_the_engines_file_only_what_reads_the_repository_is_escrowed(state: Path) -> None:
    text = escrow.gather(escrow.Installation(state))[contents.REPOSITORY].decode()
    assert "repo1-s3-key-secret=reads-the-repository-and-nothing-else" in text
    assert "repo1-cipher-pass=" in text
    assert "[holdfast]" in text
    for other in ("pg1-", "lock-path", "repo1-retention", "repo1-bundle", "archive"):
        assert other not in text


def test_what_is_missing_is_named_all_at_once(state: Path) -> None:
    for name in ("auth/root_keys", "backup/evidence_key"):
        (state / "secrets" / name).unlink()
    with pytest.raises(escrow.Missing, match=r"auth/root_keys.*backup/evidence_key"):
        escrow.gather(escrow.Installation(state))


def test_a_repository_without_a_pass_is_not_escrowed(state: Path) -> None:
    config = state / "conf" / "pgbackrest-read.conf"
    config.write_text(config.read_text().replace("repo1-cipher-pass", "repo1-nothing"))
    with pytest.raises(escrow.Missing, match="repo1-cipher-pass"):
        escrow.gather(escrow.Installation(state))


@pytest.mark.control("B7", "an escrow that not every recipient could open is not made")
def test_an_escrow_for_nobody_and_one_for_the_same_key_twice_are_refused(tmp_path: Path) -> None:
    ada = certificate(operator(tmp_path, "ada")[1])
    with pytest.raises(escrow.Unfit, match="at least one recipient"):
        escrow.seal({}, [], made_at=NOW, stack="h", stanza="s")
    with pytest.raises(escrow.Unfit, match="of one key"):
        escrow.seal({}, [ada, ada], made_at=NOW, stack="h", stanza="s")


@pytest.mark.control("B7", "an escrow that not every recipient could open is not made")
def test_a_certificate_that_is_weak_expired_or_holds_a_private_key_is_refused_with_what_to_do(tmp_path: Path) -> None:
    key, good = operator(tmp_path, "ada")
    small, old = operator(tmp_path, "small", bits=2048)[1], operator(tmp_path, "old", days=-2)[1]
    certificate(good)
    cases = {
        "no RSA key of 3072 bits or more. Make one by: openssl req": small.read_bytes(),
        "is valid until .*: ask its operator": old.read_bytes(),
        "holds a private key": key.read_bytes() + good.read_bytes(),
        "no certificate as PEM": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for told, pem in cases.items():
        with pytest.raises(escrow.Unfit, match=told):
            escrow.recipient(pem, now=NOW)


def test_a_key_of_another_kind_is_told_as_such() -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(escrow.Unfit, match="no RSA key"):
        envelope.private_key(curve, None)
    with pytest.raises(escrow.Unfit, match="no private key"):
        envelope.private_key(b"nothing", None)


def test_an_archive_that_names_a_file_outside_is_refused(tmp_path: Path) -> None:
    """It would be written outside the directory by whoever opens it."""
    files = {"secrets/../../root/.ssh/authorized_keys": b"mine"}
    ada_key, ada = operator(tmp_path, "ada")
    evil = escrow.seal(files, [certificate(ada)], made_at=NOW, stack="h", stanza="s")
    with pytest.raises(escrow.NotEscrow, match="no name of an escrowed file"):
        escrow.unseal(evil.text, private(ada_key))


def test_an_archive_with_a_link_in_it_is_refused(tmp_path: Path) -> None:
    from holdfast.escrow.archive import unpack

    target = tmp_path / "evil.tar"
    with tarfile.open(target, "w") as archive:
        member = tarfile.TarInfo("repository/ca.pem")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(member)
    with pytest.raises(escrow.NotEscrow, match="no escrow holds"):
        unpack(target.read_bytes())


def test_a_later_version_is_told_as_such_and_not_as_damage(made: escrow.Sealed) -> None:
    from holdfast.escrow.archive import Manifest

    later = made.manifest.to_json().replace(b'"version": 1', b'"version": 2')
    with pytest.raises(escrow.NotEscrow, match="version 2"):
        Manifest.from_json(later)
