"""What the stack draws as secrets is what services take for secrets."""

import json
from pathlib import Path

from deploy.stack.credentials import Vault, fresh_identities, public_key, random_text
from libs.secret import weakness
from services.backup.domain.evidence import Signer


def test_a_drawn_access_key_was_now_and_then_refused_for_too_little_variety() -> None:
    """One first `make up` in two thousand ended there: twenty hexadecimal digits can hold fewer than eight kinds."""
    drawn = [pair for _ in range(2000) for pair in json.loads(fresh_identities()).values()]
    assert [
        weakness(pair["access_key"].encode(), 16) for pair in drawn if weakness(pair["access_key"].encode(), 16)
    ] == []
    assert [pair for pair in drawn if weakness(pair["secret_key"].encode())] == []
    assert weakness(b"01" * 10, 16)  # the control: regular values are refused


def test_a_drawn_text_is_never_refused() -> None:
    assert [text for text in (random_text().strip() for _ in range(5000)) if weakness(text)] == []


def test_an_existing_state_directory_gets_the_signing_key_that_it_has_not_and_keeps_everything_else(
    tmp_path: Path,
) -> None:
    vault = Vault(tmp_path)

    def ensure() -> None:
        vault.ensure()
        vault.evidence(vault.identities()["evidence"])

    ensure()
    new = {tmp_path / "backup" / name for name in ("evidence_key", "evidence_access_key", "evidence_secret_key")}
    for path in new:
        path.unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ensure()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == new
    assert {path: after[path] for path in before} == before
    assert [path for path in new if path.stat().st_mode & 0o777 != 0o600] == []
    key = tmp_path / "backup" / "evidence_key"
    assert public_key(key.read_bytes()) == Signer(key.read_bytes()).public_pem
    ensure()
    assert key.read_bytes() == after[key]
