"""`holdfast escrow`: what a tired operator types, what is refused, and what the installation remembers."""

import hashlib
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from holdfast import escrow
from holdfast.cli import escrow_keys as keys
from holdfast.cli import main
from holdfast.escrow import Installation, NotEscrow, contents, place, record
from tests.support.escrow import installed, operator

NOW = datetime.now(UTC)


def run(*words: object) -> Result:
    done = CliRunner().invoke(main, ["escrow", *map(str, words)])
    assert "Traceback" not in done.output
    return done


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return installed(tmp_path / "home" / "state")


@pytest.fixture
def people(tmp_path: Path) -> list[str]:
    """The words that name two operators."""
    return [word for name in ("ada", "grace") for word in ("--recipient", str(operator(tmp_path, name)[1]))]


@pytest.fixture
def file(state: Path, people: list[str], tmp_path: Path) -> Path:
    """A fresh escrow of `state`."""
    output = tmp_path / "usb" / "escrow.txt"
    done = run("export", *people, "--output", output, "--state", state)
    assert done.exit_code == 0, done.output
    return output


def verified(file: Path, state: Path, *words: str) -> Result:
    return run("verify", file, "--key", file.parents[1] / "ada.key", "--state", state, *words)


@pytest.mark.control("B7", "root keys and cipher pass are in one file that any one recipient opens, and nobody else")
def test_an_export_is_private_told_with_its_digest_and_verified_with_a_recipients_key(file: Path, state: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["escrow.txt"]
    done = verified(file, state)
    assert done.exit_code == 0, done.output
    told = json.loads(verified(file, state, "--json").stdout)
    assert (told["ok"], told["newest"], set(told["compared"].values())) == (True, True, {"as installed"})
    assert told["sha256"] == subprocess.check_output(["sha256sum", file], text=True).split()[0]
    assert told["sha256"] in done.stdout


@pytest.mark.control("B7", "an escrow that not every recipient could open is not made")
def test_an_export_without_a_recipient_is_refused_and_leaves_nothing(state: Path, tmp_path: Path) -> None:
    done = run("export", "--output", tmp_path / "none", "--state", state)
    assert (done.exit_code, (tmp_path / "none").exists()) == (2, False)
    assert "nobody can open" in done.stderr
    assert record.standing(Installation(state).records).exported is None


@pytest.mark.control("B7", "an escrow that not every recipient could open is not made")
def test_an_unfit_recipient_beside_a_fit_one_stops_the_export_by_name(
    state: Path, people: list[str], tmp_path: Path
) -> None:
    small = operator(tmp_path, "small", bits=2048)[1]
    done = run("export", *people, "--recipient", small, "--output", tmp_path / "none", "--state", state)
    assert (done.exit_code, (tmp_path / "none").exists()) == (3, False)
    assert f"{small}: Its key is no RSA key" in done.stderr


@pytest.mark.control("B7", "it is kept apart from the host and the backups")
def test_an_output_in_the_installation_or_in_the_repository_is_refused_unless_forced(
    tmp_path: Path, people: list[str]
) -> None:
    repository = tmp_path / "repository"
    state = installed(tmp_path / "home" / "state", repository=repository)
    (tmp_path / "innocent").symlink_to(state)
    for inside in (state / "escrow", tmp_path / "home" / "escrow", repository / "escrow", tmp_path / "innocent" / "e"):
        done = run("export", *people, "--output", inside, "--state", state)
        assert (done.exit_code, inside.exists()) == (2, False)
        assert "what is lost with it cannot bring it back" in " ".join(done.stderr.split())
    assert run("export", *people, "--output", state / "escrow", "--state", state, "--force").exit_code == 0
    assert run("export", *people, "--output", tmp_path / "escrow", "--state", state).exit_code == 0


def test_an_export_replaces_another_file_only_when_told_to(file: Path, state: Path, people: list[str]) -> None:
    before = file.read_bytes()
    assert run("export", *people, "--output", file, "--state", state).exit_code == 2
    assert file.read_bytes() == before
    assert run("export", *people, "--output", file, "--state", state, "--force").exit_code == 0
    assert file.read_bytes() != before


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_after_a_rotation_the_escrow_is_stale_and_the_changed_secret_is_named(file: Path, state: Path) -> None:
    assert run("status", "--state", state).exit_code == 0
    (state / "secrets" / "auth" / "cookie_keys").write_text("rotated" * 9)
    done = run("status", "--state", state)
    assert done.exit_code == 1
    assert "STALE: secrets/auth/cookie_keys changed since" in done.stdout
    told = json.loads(run("status", "--state", state, "--json").stdout)
    assert (told["ok"], told["stale"]) == (False, ["secrets/auth/cookie_keys"])
    done = verified(file, state)
    assert done.exit_code == 1
    assert "Stale: secrets/auth/cookie_keys. Next: holdfast escrow export" in done.stderr


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_without_any_escrow_the_status_says_what_to_do_and_is_not_good(state: Path) -> None:
    done = run("status", "--state", state)
    assert done.exit_code == 1
    assert "No escrow was ever exported: holdfast escrow export" in done.stdout


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_what_is_remembered_holds_no_secret_and_no_digest_that_anybody_could_compute(file: Path, state: Path) -> None:
    records = Installation(state).records
    text = "".join(path.read_text() for path in records.iterdir())
    assert {path.name for path in records.iterdir()} == {"exported.json", "installed.json"}
    for secret in contents.SECRETS:
        content = (state / "secrets" / secret).read_bytes()
        assert content.decode().strip() not in text
        for guess in (content, content.strip(), f"secrets/{secret}\0".encode() + content):
            assert hashlib.sha256(guess).hexdigest() not in text
    assert (state / "secrets" / record.DIGEST_KEY).stat().st_mode & 0o777 == 0o600


@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_an_escrow_that_was_never_opened_is_told_and_opening_an_older_one_does_not_count(
    file: Path, state: Path, people: list[str]
) -> None:
    assert "never opened" in run("status", "--state", state).stdout
    older = file.with_name("older.txt")
    older.write_bytes(file.read_bytes())
    run("export", *people, "--output", file, "--state", state, "--force")
    assert json.loads(verified(older, state, "--json").stdout)["newest"] is False
    assert "never opened" in run("status", "--state", state).stdout
    assert json.loads(verified(file, state, "--json").stdout)["newest"] is True
    assert f"opened well {NOW:%Y-}" in run("status", "--state", state).stdout


@pytest.mark.control("B7", "a changed byte, a cut end and a foreign file are refused")
def test_verify_refuses_a_changed_file_with_1_and_a_foreign_key_with_3(file: Path, state: Path, tmp_path: Path) -> None:
    mallory = operator(tmp_path, "mallory")[0]
    done = run("verify", file, "--key", mallory, "--state", state)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "This key does not open it. It was made for CN=ada" in done.stderr
    file.write_bytes(file.read_bytes().replace(b"-----END PKCS7", b"AAAA\n-----END PKCS7"))
    done = verified(file, state)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is NOT a whole escrow" in done.stderr


def test_a_key_under_a_passphrase_asks_for_it_and_a_wrong_one_is_told(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_ESCROW_PASSPHRASE", "of-the-right-one")
    made = json.loads(run("keygen", "--output", tmp_path / "keys", "--name", "eve", "--json").stdout)
    key, file = Path(made["key"]), tmp_path / "escrow.txt"
    assert (key.stat().st_mode & 0o777, b"ENCRYPTED" in key.read_bytes()) == (0o600, True)
    assert run("keygen", "--output", tmp_path / "keys", "--name", "eve").exit_code == 3
    done = run("export", "--recipient", made["certificate"], "--output", file, "--state", state)
    assert "Only one person can open it" in done.stderr
    assert run("verify", file, "--key", key, "--state", state).exit_code == 0
    monkeypatch.setenv("HOLDFAST_ESCROW_PASSPHRASE", "of-another-one")
    done = run("verify", file, "--key", key, "--state", state)
    assert (done.exit_code, "passphrase is not its own" in done.stderr) == (3, True)
    monkeypatch.delenv("HOLDFAST_ESCROW_PASSPHRASE")
    done = run("verify", file, "--key", key, "--state", state)
    assert (done.exit_code, "set HOLDFAST_ESCROW_PASSPHRASE" in done.stderr) == (3, True)


def test_without_a_terminal_keygen_names_where_the_passphrase_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    monkeypatch.delenv("HOLDFAST_ESCROW_PASSPHRASE", raising=False)
    done = run("keygen", "--output", keys)
    assert (done.exit_code, done.stdout, keys.exists()) == (2, "", False)
    assert "put the passphrase into HOLDFAST_ESCROW_PASSPHRASE" in done.stderr
    monkeypatch.setenv("HOLDFAST_ESCROW_PASSPHRASE", "long enough")
    assert run("keygen", "--output", keys).exit_code == 0
    assert sorted(path.name for path in keys.iterdir()) == ["operator.key", "operator.pem"]


def test_on_a_bare_machine_it_is_verified_and_opened_without_an_installation(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    monkeypatch.chdir(bare)
    monkeypatch.delenv("HOLDFAST_STACK", raising=False)
    done = run("verify", file, "--key", tmp_path / "grace.key")
    assert (done.exit_code, "Nothing is installed here" in done.stderr) == (0, True)
    done = run("open", file, "--key", tmp_path / "grace.key", "--output", bare / "opened")
    assert done.exit_code == 0, done.output
    assert "pgbackrest --config=" in done.stderr
    opened = bare / "opened"
    assert [path for path in (opened, *opened.rglob("*")) if path.stat().st_mode & 0o077] == []
    summed = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=opened, capture_output=True, check=False)
    assert summed.returncode == 0, summed.stdout
    config = (opened / "pgbackrest.conf").read_text()
    assert f"repo1-storage-ca-file={opened}/repository/ca.pem" in config
    assert run("open", file, "--key", tmp_path / "grace.key", "--output", opened).exit_code == 3
    assert run("close", opened).exit_code == 0
    assert not opened.exists()


def test_close_removes_nothing_that_is_no_opened_escrow(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    done = run("close", tmp_path / "home")
    assert (done.exit_code, (tmp_path / "home" / "letter").read_text()) == (3, "dear")


def test_without_an_installation_an_export_says_how_to_name_one(
    people: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDFAST_STACK", raising=False)
    done = run("export", *people, "--output", tmp_path / "escrow.txt")
    assert (done.exit_code, "--state DIR" in done.stderr) == (2, True)
    (tmp_path / ".holdfast").mkdir()
    installed(tmp_path / ".holdfast" / "state")
    assert run("export", *people, "--output", tmp_path.parent / f"{tmp_path.name}.txt").exit_code == 0


@pytest.fixture
def stack(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack.json; the run directory it names."""
    (tmp_path / "run").mkdir()
    (tmp_path / "stack.json").write_text(json.dumps({"run_dir": str(tmp_path / "run")}))
    monkeypatch.setenv("HOLDFAST_STACK", str(tmp_path / "stack.json"))
    return tmp_path / "run"


def test_for_drills_only_what_a_drill_needs_is_written_where_drills_look(
    file: Path, state: Path, stack: Path, tmp_path: Path
) -> None:
    done = run("open", file, "--key", tmp_path / "ada.key", "--for-drills")
    assert done.exit_code == 0, done.output
    there = stack / "escrow"
    assert sorted(str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()) == [
        "manifest.json", "opened.json", "pgbackrest.conf", "repository/ca.pem", "repository/pgbackrest.conf",
        "secrets/backup/heartbeat_key", "secrets/files/key_encryption_keys",
    ]  # fmt: skip
    found = place.for_drill(there)
    assert found.file_roots == (state / "secrets" / "files" / "key_encryption_keys").read_bytes()
    assert found.heartbeat_key == (state / "secrets" / "backup" / "heartbeat_key").read_bytes().strip()
    assert run("open", file, "--key", tmp_path / "ada.key", "--for-drills").exit_code == 0
    assert run("close").exit_code == 0
    assert not there.exists()


def test_an_escrow_from_before_there_were_root_keys_of_files_still_opens_for_drills_and_has_none(
    file: Path, tmp_path: Path
) -> None:
    manifest, found = escrow.unseal(file.read_bytes(), keys.private_key(tmp_path / "ada.key"))
    older = {name: content for name, content in found.items() if "key_encryption_keys" not in name}
    kept = replace(manifest, files={name: digest for name, digest in manifest.files.items() if name in older})
    place.write_out(tmp_path / "older", kept, older, sha256="", now=datetime.now(UTC), for_drills=True)
    assert place.for_drill(tmp_path / "older").file_roots == b""
    place.write_out(tmp_path / "newer", manifest, found, sha256="", now=datetime.now(UTC), for_drills=True)
    assert place.for_drill(tmp_path / "newer").file_roots == found["secrets/files/key_encryption_keys"]


@pytest.mark.parametrize("name", ["", "repository", "pgbackrest.conf", "secrets/backup/heartbeat_key"])
def test_an_opened_escrow_that_others_may_read_is_none_for_a_drill(
    file: Path, stack: Path, tmp_path: Path, name: str
) -> None:
    run("open", file, "--key", tmp_path / "ada.key", "--for-drills")
    place.for_drill(stack / "escrow")
    path = stack / "escrow" / name
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(NotEscrow, match="others than its owner may read"):
        place.for_drill(stack / "escrow")


@pytest.mark.parametrize(
    "name",
    [
        "repository/pgbackrest.conf",
        "pgbackrest.conf",
        "secrets/backup/heartbeat_key",
        "secrets/files/key_encryption_keys",
    ],
)
def test_an_opened_escrow_that_was_changed_is_none_for_a_drill(
    file: Path, stack: Path, tmp_path: Path, name: str
) -> None:
    run("open", file, "--key", tmp_path / "ada.key", "--for-drills")
    place.for_drill(stack / "escrow")
    path = stack / "escrow" / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(NotEscrow, match="is not what was escrowed"):
        place.for_drill(stack / "escrow")
