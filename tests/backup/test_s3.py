"""The repository in an S3 store over TLS: written by one identity, and only read by the one that drills have."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.pgbackrest import conf
from deploy.stack.seaweed import REGION
from tests.support.backup import Archived, become, own, service_user
from tests.support.seaweed import SeaweedServer

Call = Callable[..., "subprocess.CompletedProcess[str]"]
CIPHER = "only-for-tests-another-long-cipher-pass"


def configured(archived: Archived, seaweed: SeaweedServer, identity: str, stanza: str = "s3") -> Path:
    """The engine's file for *identity*; the authority is copied to where the service user may read it."""
    store, server = seaweed.seaweed, archived.cluster
    authority = own(archived.state / "pki") / "ca.pem"
    conf.write(authority, store.ca_file.read_text(), owner=service_user())
    pair = store.identities[identity]
    repository = conf.S3(
        bucket="backups", endpoint="localhost", port=store.ports.s3, region=REGION, access_key=pair.access_key,
        secret_key=pair.secret_key, ca_file=authority,
    )  # fmt: skip
    settings = conf.Settings(
        stanza=stanza,
        repository=repository,
        server=conf.Server(
            data_dir=server.data_dir, socket_dir=server.socket_dir, port=server.port, user="holdfast_pgbackrest",
            database=server.database,
        ),
        work_dir=own(own(archived.state / "pgbackrest-s3") / "log").parent,
        cipher_pass=CIPHER,
    )  # fmt: skip
    path = archived.state / "conf" / f"{identity}.conf"
    conf.write(path, conf.render(settings), owner=service_user())
    return path


@pytest.fixture(scope="module")
def call(archived: Archived, seaweed: SeaweedServer) -> Call:
    """`call(identity, verb, …)` runs the engine on the repository in the store."""
    files = {identity: configured(archived, seaweed, identity) for identity in ("backups", "backups-read")}

    def run(identity: str, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [*become(), *conf.command(files[identity], "s3", *words)]
        return subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace", cwd="/")

    return run


@pytest.mark.control("B1", "backups lie encrypted in an S3 repository reached over TLS")
def test_a_backup_lies_encrypted_in_the_bucket_and_is_restored_by_an_identity_that_may_only_read(
    call: Call, archived: Archived, seaweed: SeaweedServer
) -> None:
    made = call("backups", "stanza-create", "--no-online")
    assert made.returncode == 0, made.stdout + made.stderr
    # The cluster archives to the tests' other repository, so this one is told not to wait for WAL.
    taken = call("backups", "backup", "--type=full", "--no-archive-check", "--log-level-console=info")
    assert taken.returncode == 0, taken.stdout + taken.stderr

    client = seaweed.client("backups")
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="backups")["Contents"]]
    info = next(key for key in keys if key.endswith("backup/s3/backup.info"))
    content = client.get_object(Bucket="backups", Key=info)["Body"].read()
    assert content.startswith(b"Salted__")
    assert b"backrest" not in content

    target = archived.state / "restored"
    places = [f"--pg1-path={target}", "--archive-mode=off", "--type=immediate"]
    restored = call("backups-read", "restore", *places)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert (target / "PG_VERSION").exists()
    denied = call("backups-read", "backup", "--type=incr", "--no-archive-check")
    assert denied.returncode != 0
    assert "403" in denied.stdout + denied.stderr
    assert client.list_objects_v2(Bucket="backups")["KeyCount"] == len(keys)


def test_a_wrong_cipher_pass_opens_nothing(call: Call, archived: Archived) -> None:
    config = archived.state / "conf" / "backups-read.conf"
    right = config.read_text()
    try:
        conf.write(config, right.replace(CIPHER, CIPHER[::-1]), owner=service_user())
        assert call("backups-read", "info").returncode == 0
        told = call("backups-read", "info", "--output=json").stdout
    finally:
        conf.write(config, right, owner=service_user())
    assert '"code":0' not in told.replace(" ", "").split('"lock"')[0]
    assert call("backups-read", "repo-ls").returncode == 0
