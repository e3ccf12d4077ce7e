"""Each deep drill opens one restored file.

It was stored by the real service; its row comes out of a real restore, its user's key out of the bucket of keys, and
the root key out of the opened escrow alone.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from deploy.pgbackrest import conf
from deploy.stack.seaweed import REGION
from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.escrow import Installation
from holdfast.usertoken.keys import Key, Keys, parse_keys, write_keys
from libs.crypto import SEGMENT_BYTES, new_key
from libs.principal import User
from libs.secret import Secret
from services.files.adapters.keyring import Keyring
from services.files.adapters.s3_keys import S3Keys
from tests.backup.test_escrow import PASS, Host, deep, open_for_drills, run
from tests.support.backup import HEARTBEAT_KEY, Archived, Operator, Service, archiving, own, service_user, wait_until
from tests.support.escrow import installed, operator
from tests.support.events import World
from tests.support.files import ROOTS, Files
from tests.support.postgres import TestDatabase
from tests.support.scratch import scratch
from tests.support.seaweed import SeaweedServer

FILE = "file_opens"


@pytest.fixture(scope="module")
def archived() -> Iterator[Archived]:
    """A cluster of this module's own: what is stored here is in no other module's marks and drills."""
    with archiving() as found:
        yield found


@pytest.fixture(scope="module")
async def people(archived: Archived, seaweed: SeaweedServer) -> AsyncIterator[list[User]]:
    """Two people with a file each, stored by the real service before the first backup."""
    for bucket, identity in (("files", "files"), ("keys", "files-keys")):
        client = seaweed.client(identity)
        for one in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=one["Key"])
    database = TestDatabase(archived.cluster, archived.cluster.database)
    with scratch("f") as directory:
        world = World(database, directory)
        async with Files(world, seaweed).service() as service:
            made = [service.person() for _ in range(2)]
            for person in made:
                await person.upload("a", os.urandom(SEGMENT_BYTES + 9))
        yield [person.who for person in made]
    await database.close()


@pytest.fixture(scope="module")
def service(archived: Archived, seaweed: SeaweedServer, people: list[User]) -> Iterator[Service]:
    """Told where escrows are opened, and given the identities of the store that may only read."""
    store = seaweed.seaweed
    authority = own(archived.state / "pki") / "opens-ca.pem"
    conf.write(authority, store.ca_file.read_text(), owner=service_user())
    made = Service(
        archived, "opens", escrow_opened=str(archived.base / "run" / "opens" / "escrow"),
        files_endpoint=f"https://localhost:{store.ports.s3}", files_region=REGION, files_ca_file=str(authority),
    )  # fmt: skip
    for names, identity in (("files", "files-read"), ("keys", "files-keys-read")):
        pair = store.identities[identity]
        for name, value in ((f"{names}_access_key", pair.access_key), (f"{names}_secret_key", pair.secret_key)):
            conf.write(made.state / "secrets" / name, value, owner=service_user())
    made.start()
    yield made
    assert made.stop() == 0, made.log.read_text()[-4000:]


@pytest.fixture(scope="module")
def asks(service: Service) -> Iterator[Operator]:
    with Operator(service) as found:
        made = found.back_up(pb.BACKUP_TYPE_FULL)
        assert made.state == pb.STATE_SUCCEEDED
        # The engine tells its end by whole seconds: a moment that can be drilled to is a second later at least.
        first = made.end_time.ToDatetime() + timedelta(seconds=2)
        wait_until(lambda: beat(found) > first, "a heartbeat after the backup")
        beat(found)
        yield found


def beat(asks: Operator) -> datetime:
    """When a heartbeat was written that is archived now."""
    made = asks.backups.CreateHeartbeat(pb.CreateHeartbeatRequest(), timeout=60)
    return made.heartbeat.create_time.ToDatetime()


@pytest.fixture(scope="module")
def host(archived: Archived, tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder = tmp_path_factory.mktemp("operator")
    state = installed(folder / "home" / "state", repository=archived.repository, cipher_pass=PASS)
    conf.write(state / "secrets" / "backup" / "heartbeat_key", HEARTBEAT_KEY.decode())
    conf.write(state / "secrets" / "files" / "key_encryption_keys", ROOTS.decode())
    conf.write(state / "conf" / "pgbackrest-read.conf", archived.config.read_text())
    made = Host(Installation(state), *operator(folder, "ada"), folder / "escrow.txt")
    made.export()
    return made


@pytest.fixture
def opened(service: Service, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "stack.json").write_text(json.dumps({"run_dir": str(service.run)}))
    monkeypatch.setenv("HOLDFAST_STACK", str(tmp_path / "stack.json"))
    open_for_drills(host.escrow, host)
    yield
    assert run("close").exit_code == 0


def erase(seaweed: SeaweedServer, who: User) -> None:
    """Erase somebody's keys as the service does."""
    there, pair = seaweed.seaweed, seaweed.seaweed.identities["files-keys"]
    keys = S3Keys(
        endpoint=there.endpoint, region=REGION, bucket="keys", access_key=pair.access_key,
        secret_key=Secret(pair.secret_key.encode()), ca_file=str(there.ca_file), threads=1,
    )  # fmt: skip

    async def erased() -> None:
        await Keyring(keys, lambda: parse_keys(ROOTS), str, remember_seconds=0).erase(who.user_id)
        await keys.stop()

    asyncio.run(erased())


@pytest.mark.control("B7", "each deep drill opens one restored file with its own key from the escrow")
def test_a_deep_drill_by_an_escrow_of_other_root_keys_fails_though_this_host_has_the_right_ones(
    asks: Operator, opened: None, host: Host, tmp_path: Path
) -> None:
    secret = host.installation.secrets / "files" / "key_encryption_keys"
    secret.write_bytes(write_keys(Keys(Key("z", new_key()))))
    try:
        other = host.export(tmp_path / "other.txt")
    finally:
        secret.write_bytes(ROOTS)
    open_for_drills(other, host)
    ended, checks = deep(asks)
    assert (ended.state, checks[FILE].verdict) == (pb.STATE_FAILED, pb.CHECK_VERDICT_FAILED), ended
    assert "the escrow does not hold the root key a that wraps the user's key" in checks[FILE].detail
    assert (checks["escrow"].verdict, ended.error.message) == (pb.CHECK_VERDICT_OK, f"The copy failed {FILE}.")


@pytest.mark.control("B7", "each deep drill opens one restored file with its own key from the escrow")
def test_a_deep_drill_opens_a_restored_file_by_the_escrow_until_its_key_is_erased_and_never_after(
    asks: Operator, opened: None, people: list[User], seaweed: SeaweedServer, service: Service
) -> None:
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert (checks[FILE].verdict, checks[FILE].count) == (pb.CHECK_VERDICT_OK, 1)
    assert checks[FILE].detail.startswith("one file opened with its user's key by the escrowed roots alone")
    assert checks[FILE].elapsed_seconds > 0
    ada, zoe = people
    erase(seaweed, ada)
    ended, checks = deep(asks)
    assert (ended.state, checks[FILE].verdict) == (pb.STATE_SUCCEEDED, pb.CHECK_VERDICT_OK), ended
    erase(seaweed, zoe)
    ended, checks = deep(asks)
    assert ended.state == pb.STATE_SUCCEEDED, ended
    # The rows are in the copy and the objects in the store: nothing but the keys is gone, and they stay gone.
    assert checks["objects_of_rows"].count == 2
    assert (checks[FILE].verdict, checks[FILE].ok) == (pb.CHECK_VERDICT_NOT_MADE, False)
    assert checks[FILE].detail == "no file that was drawn can be opened any more: 2 are of erased keys"
    assert service.leftovers == []
