"""Whether the repository of backups is off-site: decided by the engine's own file, with names resolved."""

from pathlib import Path

import pytest

from deploy.pgbackrest import conf
from deploy.stack import doctor, offsite

FILES = "https://store.example:8333"
KNOWN = {
    "store.example": frozenset({"192.0.2.1", "2001:db8::1"}),
    "other-name.example": frozenset({"2001:db8::1"}),
    "far.example": frozenset({"198.51.100.7"}),
    "mine.example": frozenset({offsite.HERE}),
}
CLAUSE = pytest.mark.control("B1", "the repository is off-site and doctor flags one that is not")


def resolve(host: str) -> frozenset[str]:
    return KNOWN.get(host, frozenset())


def written(path: Path, repository: conf.S3 | conf.Directory) -> Path:
    """The engine's file for *repository*, as `up` writes it."""
    server = conf.Server(data_dir=path, socket_dir=path, port=5432, user="u", database="d")
    settings = conf.Settings(
        stanza="s", repository=repository, server=server, work_dir=path / "work", cipher_pass="x" * 32
    )
    conf.write(path / "pgbackrest.conf", conf.render(settings))
    return path / "pgbackrest.conf"


def store(host: str, port: int = 8333) -> conf.S3:
    return conf.S3(
        bucket="backups", endpoint=host, port=port, region="r", access_key="a", secret_key="b", ca_file=Path("/ca.pem")
    )


class Parts:
    """What the check reads of the parts."""

    def __init__(self, path: Path, repository: conf.S3 | conf.Directory, files: str) -> None:
        self.pgbackrest_file = written(path, repository)
        self.store = type("Store", (), {"endpoint": files})
        self.where = type("Where", (), {"state": path})


def found(parts: Parts) -> doctor.Finding:
    [told] = [one for one in doctor.repository(parts) if one.check == "repository"]  # type: ignore[arg-type]  # see Parts
    return told


@CLAUSE
@pytest.mark.parametrize(
    ("repository", "why"),
    [
        (store("store.example"), "the same endpoint"),
        (store("STORE.example", port=443), "the same endpoint"),
        (store("other-name.example"), "the same endpoint"),
        (store("mine.example"), "which is this machine"),
        (store("gone.example"), "cannot be resolved"),
        (conf.Directory(path=Path("/backups")), "in a directory of this machine"),
    ],
)
def test_the_doctor_flags_a_repository_that_is_not_off_site_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: conf.S3 | conf.Directory, why: str
) -> None:
    monkeypatch.setattr(offsite, "addresses", resolve)
    told = found(Parts(tmp_path, repository, FILES))
    assert told.verdict == "warning"
    assert why in told.detail
    assert "at another site" in told.detail


@CLAUSE
def test_the_doctor_is_silent_about_a_repository_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsite, "addresses", resolve)
    told = found(Parts(tmp_path, store("far.example"), FILES))
    assert (told.verdict, told.detail) == ("ok", "backups lie at far.example, files elsewhere")


@CLAUSE
def test_two_names_of_this_machine_are_one_endpoint_and_an_address_elsewhere_is_not() -> None:
    assert offsite.addresses("localhost") == offsite.addresses("127.0.0.1") == {offsite.HERE}
    assert offsite.addresses("192.0.2.1") == {"192.0.2.1"}
    assert "the same endpoint" in offsite.fault("localhost", "https://127.0.0.1:8333", offsite.addresses)
    assert offsite.fault("192.0.2.1", "https://127.0.0.1:8333", offsite.addresses) == ""


def test_a_storage_host_stands_in_for_the_endpoint_and_a_port_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "pgbackrest.conf"
    path.write_text("[global]\nrepo1-type = s3\nrepo1-s3-endpoint=far.example:9000\n")
    assert offsite.repository_host(path) == "far.example"
    path.write_text(path.read_text() + "repo1-storage-host=near.example\n")
    assert offsite.repository_host(path) == "near.example"
    path.write_text("[global]\nrepo1-type=azure\n")
    with pytest.raises(ValueError, match="names no S3 endpoint"):
        offsite.repository_host(path)
