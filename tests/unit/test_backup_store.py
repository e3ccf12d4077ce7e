"""The settings of a store at another site: what is refused, and by which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.pgbackrest import conf
from deploy.stack import backup_store
from deploy.stack.layout import BadSettings, Layout, Settings, settings

PAIRS = {name: {"access_key": f"key-{name}", "secret_key": "s"} for name in backup_store.NAMES}


@pytest.fixture
def where(tmp_path: Path) -> Layout:
    made = Layout(tmp_path, tmp_path, tmp_path / "run")
    (made.secrets / "stack").mkdir(parents=True)
    return made


def given(where: Layout, pairs: object, mode: int = 0o600) -> None:
    path = where.secrets / backup_store.PAIRS
    path.write_text(pairs if isinstance(pairs, str) else json.dumps(pairs), encoding="utf-8")
    path.chmod(mode)


@pytest.mark.parametrize(
    ("endpoint", "faults"),
    [
        ("https://s3.far.example", 0),
        ("https://s3.far.example:9000", 0),
        ("http://s3.far.example", 1),
        ("https://198.51.100.7", 1),
        ("https://s3.far.example/bucket", 1),
        ("s3.far.example", 1),
        ("https://s3.far.example:70000", 1),
        ("https://s3.far.example:0", 1),
    ],
)
def test_an_endpoint_is_https_and_a_name(where: Layout, endpoint: str, faults: int) -> None:
    (where.home / "settings.json").write_text(json.dumps({"offsite_endpoint": endpoint}), encoding="utf-8")
    if faults:
        with pytest.raises(BadSettings, match="offsite_endpoint: has to be https"):
            settings(where)
    else:
        assert settings(where).offsite_endpoint == endpoint


def test_the_store_is_what_the_settings_and_the_pairs_say(where: Layout) -> None:
    given(where, PAIRS)
    found = backup_store.offsite(where, Settings(offsite_endpoint="https://s3.far.example", offsite_region="eu-1"))
    assert (found.host, found.port, found.region, found.ca_file) == ("s3.far.example", 443, "eu-1", None)
    assert found.identities[backup_store.READER].access_key == "key-backups-read"


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("{", "JSONDecodeError"),
        ([], "TypeError"),
        ({"backups": PAIRS["backups"]}, "backups-keeper"),
        ({**PAIRS, "evidence": {"access_key": "a"}}, "secret_key"),
        ({**PAIRS, "evidence": {"access_key": "a", "secret_key": ""}}, "an empty key"),
    ],
)
def test_pairs_that_cannot_be_used_are_refused_with_the_file_and_what_it_has_to_hold(
    where: Layout, pairs: Any, words: str
) -> None:
    given(where, pairs)
    with pytest.raises(BadSettings, match=words) as refused:
        backup_store.offsite(where, Settings(offsite_endpoint="https://s3.far.example"))
    assert backup_store.PAIRS in str(refused.value)
    assert "backups-keeper, backups-read, evidence" in str(refused.value)


def test_pairs_that_others_may_read_are_refused(where: Layout) -> None:
    given(where, PAIRS, mode=0o640)
    with pytest.raises(BadSettings, match="chmod 600"):
        backup_store.offsite(where, Settings(offsite_endpoint="https://s3.far.example"))


def test_an_authority_is_copied_to_where_the_parts_may_read_it(where: Layout, tmp_path: Path) -> None:
    given(where, PAIRS)
    authority = tmp_path / "given.pem"
    named = Settings(offsite_endpoint="https://s3.far.example", offsite_ca_file=str(authority))
    with pytest.raises(BadSettings, match=r"given\.pem cannot be read"):
        backup_store.offsite(where, named)
    for text in ("one", "another"):
        authority.write_text(text, encoding="ascii")
        found = backup_store.offsite(where, named)
        assert found.ca_file == where.offsite_ca_file
        assert (where.offsite_ca_file.read_text(), where.offsite_ca_file.stat().st_mode & 0o777) == (text, 0o644)


def test_the_engine_trusts_the_given_authority_or_the_systems(tmp_path: Path) -> None:
    server = conf.Server(data_dir=tmp_path, socket_dir=tmp_path, port=5432, user="u", database="d")

    def text(ca_file: Path | None) -> str:
        repository = conf.S3(
            bucket="b", endpoint="s3.far.example", port=443, region="r", access_key="a", secret_key="s", ca_file=ca_file
        )
        return conf.render(
            conf.Settings(
                stanza="s", repository=repository, server=server, work_dir=tmp_path / "w", cipher_pass="x" * 32
            )
        )

    assert "repo1-storage-ca-file" not in text(None)
    assert "repo1-storage-ca-file=/ca.pem\n" in text(Path("/ca.pem"))
    assert "repo1-storage-verify-tls=y\n" in text(None)
